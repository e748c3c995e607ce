"""The local world: objects as directories, and the processes that hold sandboxes. Listed, made, started, removed.

An object is a directory with an `object.json`, moved into place whole; so none is ever half made. A sandbox's object is
`created` until its first start, `running` while its first process is the one that was recorded, `exited` after that.
Not its duty: what an object is for, and what runs in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local import proc, supervisor
from bottle_fsm.errors import BackendError, NameTakenError, SidecarExitedError
from bottle_fsm.model import Json
from bottle_fsm.naming import Labels
from bottle_fsm.safetext import safe

OBJECT: Final = "object.json"
STATE: Final = "state.json"
EXIT: Final = "exit.json"
LOG: Final = "log"
STARTED: Final = "started"
MARK: Final = "BOTTLE_FSM_OBJECT"
"""In a supervisor's environment: the id of its object."""
MARK_LABELS: Final = "BOTTLE_FSM_LABELS"
"""In a supervisor's environment: its object's labels, name and directory, as JSON."""
START_SECONDS: Final = 15.0
_POLL: Final = 0.01
_GONE: Final = ".gone-"
_NEW: Final = ".new-"
_READABLE: Final = "See that this user may read the state directory, and that its disk is well"


@dataclass(frozen=True)
class LocalObject:
    """One object as it is now; `init` is the recorded first process of a sandbox."""

    id: str
    kind: str
    name: str
    labels: Mapping[str, str]
    directory: Path
    state: str
    exit_code: int | None = None
    init: Json = field(default_factory=dict)


class LocalWorld:
    """All objects below one state root, and the processes of ours that this user may see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- looking -----------------------------------------------------------------------------------------------------

    def objects(self) -> list[LocalObject]:
        """Return all objects, oldest first; a supervisor without a directory is one, too."""
        found = {item.id: item for item in map(_read, self._directories()) if item is not None}
        for process in proc.scan(MARK):
            if process.mark not in found and (item := _orphan(process, self.folder)) is not None:
                found[item.id] = item
        return sorted(found.values(), key=lambda item: (_born(item.directory / OBJECT), item.id))

    def get(self, object_id: str) -> LocalObject | None:
        """Return one object; None when there is none of this id."""
        return next((item for item in self.objects() if item.id == object_id), None)

    def _directories(self) -> list[Path]:
        """Return the directories of objects.

        Raises:
            BackendError: they cannot be listed.
        """
        try:
            return [path for path in self.folder.iterdir() if not path.name.startswith((_GONE, _NEW))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackendError(f"cannot be listed: {error.strerror}", place=str(self.folder), hint=_READABLE) from error

    # -- changing ----------------------------------------------------------------------------------------------------

    def create(
        self, kind: str, name: str, labels: Mapping[str, str], *, fill: Callable[[Path, Path], Json] | None = None
    ) -> LocalObject:
        """Make an object: `fill(new, final)` puts files into its directory and returns what its `object.json` adds.

        Raises:
            NameTakenError: an object of this name exists.
        """
        final = self.folder / name
        if final.exists():
            raise NameTakenError(f"{name} exists already", place=str(final))
        object_id = uuid.uuid4().hex
        self.sweep(name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.folder / f"{_NEW}{name}-{object_id}"
        new.mkdir(mode=0o700)
        more = fill(new, final) if fill else {}
        content = {"id": object_id, "kind": kind, "name": name, "labels": dict(labels), **more}
        _write_json(new / OBJECT, content)
        try:
            new.rename(final)
        except OSError as error:  # somebody else's came between
            raise NameTakenError(f"{name} exists already", place=str(final)) from error
        return LocalObject(object_id, kind, name, labels, final, "created" if kind == "process" else "present")

    def start(self, found: LocalObject) -> Json:
        """Start a sandbox and return its identity; one that runs already is left alone.

        Raises:
            SidecarExitedError: it did not come up; with its last lines.
        """
        now = _read(found.directory)
        if now is not None and now.state == "running":
            return now.init
        (found.directory / STARTED).touch()
        for name in (EXIT, STATE):
            (found.directory / name).unlink(missing_ok=True)
        mark = {"labels": dict(found.labels), "name": found.name, "directory": str(found.directory)}
        subprocess.run(
            [sys.executable, "-I", "-S", supervisor.__file__, str(found.directory)],
            env={MARK: found.id, MARK_LABELS: json.dumps(mark), "PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=True,
            timeout=START_SECONDS,
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            now = _read(found.directory)
            if now is not None and now.state == "running":
                return now.init
            if (found.directory / EXIT).exists():
                break
            time.sleep(_POLL)
        raise SidecarExitedError(f"did not come up; its last lines: {last_lines(found.directory)}", place=found.name)

    def stop(self, found: LocalObject) -> None:
        """End a sandbox with everything in it, and see that nothing of it is left.

        Raises:
            BackendError: a process is left.
        """
        inits = [proc.Known.from_json(found.init)] if found.init else []
        for process in proc.scan(MARK):
            if process.mark == found.id:
                inits += proc.inits_below(process.known.pid)  # its record may be gone, its children are not
                proc.kill(process.known)
        for known in inits:
            end_sandbox(known, found.name)

    def remove(self, found: LocalObject) -> None:
        """Remove an object; one that is gone already is fine."""
        if found.kind == "process":
            self.stop(found)
        gone = found.directory.with_name(f"{_GONE}{found.name}-{found.id}")
        with contextlib.suppress(FileNotFoundError):
            found.directory.rename(gone)
        _remove_tree(gone)
        with contextlib.suppress(OSError):  # the last one takes the directory of all along
            self.folder.rmdir()

    def sweep(self, name: str) -> None:
        """Take away what killed launchers left half made or half removed of one name; who calls owns its bottle."""
        for prefix in (_NEW, _GONE):
            for path in self.folder.glob(f"{prefix}{name}-*"):
                _remove_tree(path)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def end_sandbox(init: proc.Known, name: str) -> None:
    """End a sandbox by its first process.

    Raises:
        BackendError: a process of it is left.
    """
    if left := proc.kill_namespace(init):
        hint = "Look at them with ps; `bottle-fsm destroy` goes on when they are gone"
        raise BackendError(f"processes are left: {', '.join(map(str, left))}", place=name, hint=hint)


def last_lines(directory: Path, lines: int = 15) -> str:
    """Return the end of a sandbox's log, as text that is safe to show."""
    return " / ".join(log_end(directory, lines).decode(errors="replace").splitlines()) or "none"


def log_end(directory: Path, lines: int) -> bytes:
    """Return the last lines of a sandbox's log."""
    try:
        with (directory / LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - (1 << 20)))
            return b"".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return b""


def whole_log(directory: Path) -> bytes:
    """Return a sandbox's log as far as it is kept; never in the middle of being cut."""
    try:
        with (directory / LOG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return file.read()
    except FileNotFoundError:
        return b""


def _read(directory: Path) -> LocalObject | None:
    """Return the object of a directory; None when it is gone. One that says nothing of itself is nobody's: foreign."""
    content = _read_json(directory / OBJECT)
    try:
        object_id, kind, name, labels = (content[key] for key in ("id", "kind", "name", "labels"))
    except KeyError:
        foreign = LocalObject(directory.name, "directory", directory.name, {}, directory, "present")
        return foreign if directory.exists() else None
    if kind != "process":
        return LocalObject(object_id, kind, name, labels, directory, "present")
    init = _read_json(directory / STATE)
    state, code = "created", None
    if init and proc.is_alive(proc.Known.from_json(init)):
        state = "running"
    elif (directory / STARTED).exists():
        state, code = "exited", _read_json(directory / EXIT).get("code")
    return LocalObject(object_id, kind, name, labels, directory, state, code, init)


def _orphan(process: proc.Marked, folder: Path) -> LocalObject | None:
    """Return the object of a supervisor whose directory is gone; None when it is another state root's."""
    try:
        mark = json.loads(process.environ[MARK_LABELS])
        directory, labels = Path(mark["directory"]), dict(mark["labels"])
        name = str(mark["name"])
    except (KeyError, TypeError, ValueError):
        return None
    if directory.parent != folder or Labels.of(labels) is None:
        return None
    return LocalObject(process.mark, "process", name, labels, directory, "running", None, _read_json(directory / STATE))


def _read_json(path: Path) -> Json:
    """Return a JSON object; empty when there is no such file, or no object in it.

    Raises:
        BackendError: it cannot be read: what is in the world is not known then, and must not pass for nothing.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    except OSError as error:
        raise BackendError(f"cannot be read: {error.strerror}", place=str(path), hint=_READABLE) from error
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: Json) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _born(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_tree(path: Path) -> None:
    """Remove a directory tree that the agent could write to: links are not followed, missing rights are taken.

    By coreutils: such a tree may be deeper than Python recurses, and its paths longer than a path can be.

    Raises:
        BackendError: something of it is left.
    """
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    remove = ("rm", "-rf", "--", str(path))
    ended = subprocess.run(remove, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode != 0:
        mend = ("find", str(path), "-type", "d", "!", "-perm", "-700", "-execdir", "chmod", "u+rwx", "{}", ";")
        subprocess.run(mend, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        ended = subprocess.run(remove, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode != 0:
        reason = safe(ended.stderr.decode(errors="replace").strip()[-300:])
        hint = "See what holds it (a mount, another user's file); `bottle-fsm destroy` goes on when it can be removed"
        raise BackendError(f"cannot be removed: {reason}", place=str(path), hint=hint)
