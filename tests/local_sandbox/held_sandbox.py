"""A sandbox under its supervisor, as the backend starts one, with a door into it; no launch, no sidecars."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.local import first, proc, seccomp, supervisor
from bottle_fsm.backend.local.bottle import LocalBottle
from bottle_fsm.backend.local.door import Session, Wanted
from bottle_fsm.backend.local.sandbox import ROOTS_PLACES, Bind, variables
from bottle_fsm.places import AGENT_HOME, WORKSPACE
from local_sandbox.sandbox_room import PYTHON, Room

MARK: Final = "BOTTLE_TEST_HELD"
ENV: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "LC_CTYPE": "C.UTF-8", "PLANNED": "yes"}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return value


@dataclass
class Held:
    """One object directory, filled, and whoever is started from it."""

    room: Room
    folder: Path
    main: Sequence[str] = ()
    bridges: Sequence[Mapping[str, str]] = ()
    limits: Mapping[str, int] = field(default_factory=lambda: {"nproc": 64, "nofile": 4096, "core": 0})
    without: Sequence[str] = ()
    binds: Sequence[Bind] = ()

    def fill(self) -> Held:
        """Write what the supervisor reads."""
        self.folder.mkdir(mode=0o700, parents=True)
        places = {name: self.room.folder / name for name in ("home", "workspace", *ROOTS_PLACES)}
        for path in places.values():
            path.mkdir(mode=0o755, exist_ok=True)
            self.room.give(path)
        shared = [
            Bind(str(first.SOURCE), first.TARGET),
            Bind(str(places["home"]), AGENT_HOME, writable=True),
            Bind(str(places["workspace"]), WORKSPACE, writable=True),
            *self.binds,
        ]
        roots = [Bind(str(places[name]), target) for name, target in ROOTS_PLACES.items()]
        theirs = [Bind(bind.source, bind.target, writable=True) for bind in roots]
        program = first.words(PYTHON, main=self.main, bridges=self.bridges, limits=self.limits)
        command = self.room.words(program, binds=[*shared, *roots], without=self.without)
        self.write(
            command=command[len(self.room.prefix) :],  # the supervisor is started as the launcher's user
            maintenance=self.room.words((), binds=[*shared, *theirs], maintenance=True),
            env=ENV,
            python=PYTHON,
            workdir=WORKSPACE,
        )
        (self.folder / "seccomp.bpf").write_bytes(seccomp.program())
        (self.folder / "variables").write_bytes(variables(ENV))
        for path in (self.folder, *self.folder.iterdir()):
            if self.room.prefix:
                self.room.give(path)
        return self

    def write(self, **more: Any) -> None:
        """Change what `object.json` says."""
        path = self.folder / "object.json"
        known = json.loads(path.read_bytes()) if path.exists() else {}
        path.write_text(json.dumps({**known, **more}))

    def launch(self) -> None:
        """Start the supervisor, as the backend does."""
        subprocess.run(
            [*self.room.prefix, self.python, "-I", "-S", supervisor.__file__, str(self.folder)],
            env={"PATH": os.environ["PATH"], MARK: str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            cwd="/",
        )

    @property
    def python(self) -> str:
        """The interpreter of this launcher's supervisor."""
        return PYTHON if self.room.prefix else sys.executable

    def up(self) -> Held:
        """Fill, start, and wait until a command can be run."""
        self.fill().launch()
        wait_for(lambda: self.state() or self.ended(), "the record")
        assert not self.ended(), self.log()
        return self

    def state(self) -> dict[str, Any]:
        return self._read("state.json")

    def ended(self) -> dict[str, Any]:
        return self._read("exit.json")

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def known(self) -> proc.Known:
        return proc.Known.from_json(self.state())

    def supervisors(self) -> list[int]:
        """Every process that still carries this object's mark: supervisors, as nothing else gets their environment."""
        wanted = f"{MARK}={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def processes(self) -> list[int]:
        """Every process of this room, or in the recorded namespace."""
        inside = proc.left_of(self.known()) if self.state() else []
        return sorted({*inside, *left(self.room)})

    def session(self, *argv: str, stdin: bool = False, size: tuple[int, int] | None = None, **env: str) -> Session:
        return Session(self.folder, Wanted(argv, env, "/", size), place="held", stdin=stdin)

    def bottle(self) -> LocalBottle:
        return LocalBottle(self.folder, name="held")

    def inside(self, script: str, *, seconds: float = 20.0) -> str:
        result = self.bottle().exec(["sh", "-c", f"({script}) 2>&1"], timeout=seconds)
        return result.stdout.decode(errors="replace").strip()

    def down(self) -> None:
        """End everything of this room, and see that it is ended."""
        for pid in self.supervisors():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.state():
            assert proc.kill_namespace(self.known()) == []
        wait_for(lambda: not self.processes(), f"the end of {self.processes()}")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        return value


def left(room: Room) -> list[int]:
    """Return every process whose words or mounts name one of a room's paths."""
    wanted = str(room.folder).encode()
    ours = Path("/proc/self/ns/mnt").readlink()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            names = (path / "cmdline").read_bytes()
            if wanted not in names and (path / "ns/mnt").readlink() != ours:
                names = (path / "mountinfo").read_bytes()
        except OSError:
            continue
        if wanted in names and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def running(pids: Iterable[int], *argv: str) -> list[int]:
    """Return those of some processes that run just these words."""
    words = "".join(f"{word}\0" for word in argv).encode()
    found = []
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == words:
                found.append(pid)
        except OSError:
            continue
    return found


@contextmanager
def holding(room: Room, name: str = "held", **shape: Any) -> Iterator[Held]:
    """Give a sandbox's directory, and end what was started from it."""
    made = Held(room, room.folder / name, **shape)
    try:
        yield made
    finally:
        made.down()
