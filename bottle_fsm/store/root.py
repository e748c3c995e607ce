"""The state root: the directory that holds journal, locks and keys, and its identity.

The root id is a random UUID bound to this machine's id: a state directory that was copied to another machine is
noticed before it acts on anything. The key beside it never enters the journal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.errors import DecisionNeededError, StoreError
from bottle_fsm.secret import Secret

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}
)
_MACHINE_ID: Final = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class StateRoot:
    """An opened state root: its directory, its id and its key (never printed, never stored elsewhere)."""

    path: Path
    root_id: str
    key: Secret

    def token(self, launch: str, purpose: str) -> Secret:
        """Return the token of a launch for a purpose: equal on every call, unguessable without the key."""
        message = f"{launch}\0{purpose}".encode()
        return Secret(hmac.new(self.key.reveal().encode(), message, hashlib.sha256).hexdigest())


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return the state root that is meant when none is named: `BOTTLE_FSM_STATE_DIR`, else below `XDG_STATE_HOME`."""
    named = environ.get("BOTTLE_FSM_STATE_DIR")
    if named:
        return Path(named).absolute()
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "state")
    return Path(home) / "bottle-fsm"


def open_root(path: Path, *, machine_id: str | None = None) -> StateRoot:
    """Open a state root, making it when it is not there.

    Raises:
        StoreError: the directory cannot be used (permissions, a network file system, damaged files).
        DecisionNeededError: it was made on another machine.
    """
    machine = machine_id if machine_id is not None else this_machine()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_directory(path)
        (path / "locks").mkdir(exist_ok=True, mode=0o700)
        _create_once(path / "root.key", secrets.token_hex(32))
        _create_once(path / "root.json", json.dumps({"root": str(uuid.uuid4()), "machine": machine}))
        identity = json.loads((path / "root.json").read_text())
        key = (path / "root.key").read_text()
        root_id, made_on = str(identity["root"]), str(identity["machine"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"the state directory cannot be used: {error}",
            place=str(path),
            hint="Name another one with --state-dir or BOTTLE_FSM_STATE_DIR.",
        ) from error
    if made_on != machine:
        raise DecisionNeededError(
            "this state directory was made on another machine",
            place=str(path),
            hint="Copies must not act on the original's bottles: use a fresh --state-dir here.",
        )
    return StateRoot(path, root_id, Secret(key))


def this_machine() -> str:
    """Return a digest of this machine's id; the id itself is nobody's business."""
    try:
        text = _MACHINE_ID.read_text().strip()
    except OSError:
        text = os.uname().nodename
    return hashlib.sha256(f"bottle-fsm\0{text}".encode()).hexdigest()[:32]


def _create_once(path: Path, content: str) -> None:
    """Write a file aside and link it into place: the first of several processes wins, and nobody sees half of it."""
    if path.exists():
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        _sync_directory(path.parent)
    finally:
        aside.unlink()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_directory(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.getuid():
        raise StoreError(f"the state directory belongs to uid {found.st_uid}", place=str(path))
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    kind = _file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"the state directory is on a network file system ({kind}), where locks do not hold",
            place=str(path),
            hint="Name a local directory with --state-dir or BOTTLE_FSM_STATE_DIR.",
        )


def _file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that holds `path`; empty where the kernel does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    real = str(path.resolve())
    best, kind = "", ""
    for line in lines:
        point, name = line.split(" ")[1:3]
        point = point.replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind
