"""Where a private engine lives, and the few words that are spoken with an engine over its socket.

Its duty: paths, pid and plain requests. Not its duty: starting or stopping anything. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKER = "lock"
"""The engine's lock file, which also marks its directory as ours; it is never removed."""
SOCKET_PATH_LIMIT = 107
LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"  # the longest that the engine makes under its run directory


class EngineError(RuntimeError):
    """The engine cannot be brought up or down; the text says why and how to go on."""


def say(text: str) -> None:
    """Tell the person; standard output is kept for `env` and `status`."""
    print(f"engine: {text}", file=sys.stderr, flush=True)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def live_pid(pidfile: Path, *, argument: str) -> int | None:
    """Return the pid in a file if that process lives, is no zombie, and has this argument; else None."""
    try:
        number = int(pidfile.read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if argument.encode() in command else None


@dataclass(frozen=True)
class Place:
    """Where one private engine lives. Everything it makes is below `directory` and `run`."""

    directory: Path

    @property
    def digest(self) -> str:
        """Return a short name of the directory, for what must be unique outside of it."""
        return hashlib.sha256(str(self.directory).encode()).hexdigest()[:10]

    @property
    def run(self) -> Path:
        """Return the directory of sockets: inside if their paths fit the kernel's limit, else a short one."""
        inside = self.directory / "run"
        if len(str(inside / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT:
            return inside
        return Path("/run") / f"bottle-engine-{self.digest}"

    @property
    def socket(self) -> Path:
        """Return the engine's API socket."""
        return self.run / "docker.sock"

    @property
    def url(self) -> str:
        """Return the value for `DOCKER_HOST`."""
        return f"unix://{self.socket}"

    @property
    def data(self) -> Path:
        """Return the data root: images, layers, networks, volumes."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """Return the daemon's log."""
        return self.directory / "dockerd.log"

    @property
    def pidfile(self) -> Path:
        """Return the daemon's pid file."""
        return self.directory / "dockerd.pid"

    def pid(self) -> int | None:
        """Return the daemon's pid if that process lives and is this engine's, never just any process of that number."""
        return live_pid(self.pidfile, argument=str(self.pidfile))


def ask(path: Path, method: str, target: str, *, timeout: float = 10.0) -> Any:
    """Send one request to an engine's socket and return its JSON answer, or None for an empty one.

    Raises:
        OSError: nothing answers there, or the answer is a refusal.
    """
    connection = _UnixConnection(path, timeout=timeout)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{path} does not speak HTTP: {error}") from error
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise OSError(f"{method} {target}: {answer.status} {body.decode(errors='replace').strip()}")
    return json.loads(body) if body else None


def version_at(path: Path) -> str | None:
    """Return the version of the engine behind a socket, None when none answers."""
    with contextlib.suppress(OSError, ValueError):
        return str(ask(path, "GET", "/version", timeout=5.0)["Version"])
    return None
