"""A machine that doctor looks at, for tests: this one, as different users and with things taken away for real."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli_shell import PROGRAM

NOBODY: Final = 65534
NOWHERE: Final = "unix:///nowhere/docker.sock"
_AS_NOBODY: Final = """\
set -eu
closed=$1 base=$2 nobody=$3
shift 3
if [ -n "$closed" ]; then
  mount -t tmpfs -o mode=0755 held /media
  mkdir /media/base
  mount --bind "$base" /media/base
  mount -t tmpfs -o mode=0755 opened "$closed"
  mkdir -p "$base"
  mount --bind /media/base "$base"
fi
exec setpriv --reuid="$nobody" --regid="$nobody" --clear-groups -- "$@"
"""
"""Python may be below a home that only root may enter: a way to it is opened, in a mount namespace of its own."""


@dataclass
class Seen:
    """What doctor said: its exit code, its rows by area and name, its last object, and its raw output."""

    code: int
    out: str
    err: str
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)

    def level(self, area: str, name: str) -> str:
        """Return the level of a row."""
        return str(self.rows[area, name]["level"])

    def found(self, area: str, name: str) -> str:
        """Return what a row says was found."""
        return str(self.rows[area, name]["found"])

    def remedy(self, area: str, name: str) -> str:
        """Return what a row says to do."""
        return str(self.rows[area, name]["remedy"])


@dataclass
class Patient:
    """Where and how doctor is run."""

    state: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    words: tuple[str, ...] = ("--json",)

    def seen(self, *, seconds: float = 60.0) -> Seen:
        """Run `doctor` in a process of its own."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "BOTTLE_FSM_STATE_DIR": str(self.state)}
        env |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        env |= {"DOCKER_HOST": NOWHERE, **self.env}
        command = [*self.before, PROGRAM, "doctor", *self.words]
        done = subprocess.run(
            command,
            env={name: value for name, value in env.items() if value != "unset"},
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        found = Seen(done.returncode, done.stdout, done.stderr)
        if "--json" in self.words:
            header, *rows, found.outcome = map(json.loads, done.stdout.splitlines())
            assert header["schema"] == "bottle-fsm/1"
            assert header["command"] == "doctor"
            found.rows = {(row["area"], row["name"]): row for row in rows}
        return found


@contextlib.contextmanager
def unprivileged(state: str = "state") -> Iterator[Patient]:
    """A patient who is no root, with a home of their own in a place that they can enter."""
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory() as home:
            yield Patient(Path(home, state), Path(home))
        return
    base = Path(sys.base_prefix).resolve()
    closed = next((str(p) for p in reversed([base, *base.parents]) if not p.stat().st_mode & 0o001), "")
    script = ("unshare", "--mount", "--", "/bin/sh", "-c", _AS_NOBODY, "sh", closed, str(base), str(NOBODY))
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="doctor-") as home:
        os.chown(home, NOBODY, NOBODY)
        yield Patient(Path(home, state), Path(home), before=script, env={"COVERAGE_PROCESS_CONFIG": "unset"})


def in_user_namespace(script: str, *words: str, mount: bool = False) -> tuple[str, ...]:
    """Return what goes before a command so that a script runs first, as root of a user namespace of its own."""
    namespaces = ("--user", "--map-root-user", *(["--mount"] if mount else []))
    return ("unshare", *namespaces, "--", "/bin/sh", "-euc", f'{script}\nexec "$@"', "sh", *words)


def in_mount_namespace(script: str) -> tuple[str, ...]:
    """Return what goes before a command so that a script runs first, in a mount namespace of its own."""
    if os.geteuid() != 0:
        return in_user_namespace(script, mount=True)
    return ("unshare", "--mount", "--", "/bin/sh", "-euc", f'{script}\nexec "$@"', "sh")


@contextlib.contextmanager
def half_dead_engine(place: Path, answers: Sequence[bytes] = ()) -> Iterator[str]:
    """An engine that takes connections, answers the first requests as given, and from then on never says a word."""
    path, left, kept = place / "e.sock", list(answers), list[socket.socket]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    threading.Thread(target=_answer, args=(connection, left), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in kept:
                connection.close()


def version_answer(version: str) -> bytes:
    """Return an engine's answer about its version."""
    body = json.dumps({"Version": version, "ApiVersion": "1.41", "Arch": "amd64"}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer(connection: socket.socket, left: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            if b"/version" in data and left:
                connection.sendall(left[0])
