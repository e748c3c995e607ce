#!/usr/bin/env python3
"""Bring up, and take down, a private Docker engine: `engine.py start|stop|status|env`.

Its duty: an engine on a socket, data root and process of its own, installed from Debian's packages when missing.
Not its duty: images and bottles. Standard library only: it runs before the project's environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

REPO = Path(__file__).resolve().parent.parent
PACKAGES = {  # a program that shows that the package is there, and the package
    "/usr/sbin/dockerd": "docker.io",
    "/usr/sbin/iptables": "iptables",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/sbin/update-ca-certificates": "ca-certificates",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
SOCKET_PATH_LIMIT = 107
LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"  # the longest name that the engine makes under its run directory
ANSWER_TIMEOUT = 60.0
MARKER = "lock"


class EngineError(Exception):
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
        try:
            number = int(self.pidfile.read_text())
            command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return number if str(self.pidfile).encode() in command else None


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


def users_engine(place: Place) -> str | None:
    """Return a description of an engine that answers with the user's own settings, None when there is none.

    Raises:
        EngineError: `DOCKER_HOST` names an engine that does not answer: another one would be a surprise.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if host == place.url:
        return None
    if host.startswith("unix://"):
        version = version_at(Path(host.removeprefix("unix://")))
    elif shutil.which("docker"):
        version = _version_by_client()
    else:
        version = None if host else version_at(Path("/var/run/docker.sock"))
    if version:
        return f"engine {version} ({host or 'your default context'})"
    if host:
        raise EngineError(
            f"DOCKER_HOST={host} does not answer. Start that engine, unset DOCKER_HOST, or say --private for one of our own."
        )
    return None


def _version_by_client() -> str | None:
    """Ask through the docker client, which knows contexts, ssh and TLS."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False, stdin=subprocess.DEVNULL)
        return done.stdout.strip() or None if done.returncode == 0 else None
    return None


def install_missing() -> None:
    """Install the Debian packages that are missing."""
    missing = [package for program, package in PACKAGES.items() if not Path(program).exists()]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise EngineError(f"{', '.join(missing)} missing and there is no apt-get. Install them, or set DOCKER_HOST.")
    say(f"installing {', '.join(missing)} with apt-get: about a minute, up to 450 MB of disk")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
            raise EngineError(f"{shlex.join(command)} failed ({done.returncode}):\n{tail}")


def storage_driver(directory: Path) -> str:
    """Return `overlay2` where an overlay can be mounted, else `vfs` (slow and large, but it works everywhere)."""
    probe = directory / "overlay-probe"
    for part in ("lower", "upper", "work", "merged"):
        (probe / part).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if mounted:
        subprocess.run(["umount", str(probe / "merged")], check=True)
    shutil.rmtree(probe)
    return "overlay2" if mounted else "vfs"


def daemon_command(place: Place) -> list[str]:
    """Return the daemon's command line.

    No default bridge: bottles use only networks of their own, and builds the host's network, so the engine takes no
    address range that another engine on this machine may have. A configuration file of its own: flags that are also
    in /etc/docker/daemon.json would be refused. A containerd namespace of its own: a system containerd may be shared.
    """
    config = place.directory / "daemon.json"
    config.write_text("{}\n")
    return [
        "/usr/sbin/dockerd",
        f"--data-root={place.data}",
        f"--exec-root={place.run / 'exec'}",
        f"--host={place.url}",
        "--pidfile",
        str(place.pidfile),
        f"--config-file={config}",
        "--bridge=none",
        f"--storage-driver={storage_driver(place.directory)}",
        f"--containerd-namespace=bottle-{place.digest}",
        f"--containerd-plugins-namespace=bottle-plugins-{place.digest}",
    ]


def start(place: Place) -> None:
    """Start the private engine if it does not answer, and wait until it does."""
    with locked(place):
        version = version_at(place.socket)
        if version:
            say(f"engine {version} answers already at {place.url}")
            return
        if place.pid() is not None:
            _stop_daemon(place)  # a daemon that lives and does not answer: start it afresh
        place.run.mkdir(parents=True, exist_ok=True)
        place.pidfile.unlink(missing_ok=True)
        command = daemon_command(place)
        with place.log.open("ab") as log:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        version = _wait_for_answer(place, daemon)
        if "SUDO_UID" in os.environ:
            os.chown(place.socket, int(os.environ["SUDO_UID"]), -1)
    say(f"engine {version} answers at {place.url} (data {place.data}, log {place.log})")


def _wait_for_answer(place: Place, daemon: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        version = version_at(place.socket)
        if version:
            return version
        if daemon.poll() is not None:
            raise EngineError(f"dockerd ended with code {daemon.returncode}.\n{_log_tail(place)}")
        time.sleep(0.1)
    raise EngineError(f"dockerd did not answer within {ANSWER_TIMEOUT:.0f} s.\n{_log_tail(place)}")


def _log_tail(place: Place) -> str:
    lines = place.log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join([f"The last lines of its log, {place.log}:", *(f"  {line}" for line in lines)])


def stop(place: Place, *, keep_data: bool) -> None:
    """Remove every container and network of the private engine, end it, and remove what it left."""
    if not (place.directory / MARKER).exists():
        say(f"no engine was ever started in {place.directory}; nothing to stop")
        return
    with locked(place):
        if version_at(place.socket):
            _remove_objects(place)
        _stop_daemon(place)
        _unmount(place.directory)
        _unmount(place.run)
        leftovers = [place.run, place.directory / "daemon.json", place.pidfile]
        if not keep_data:
            leftovers += [place.data, place.log]
        for leftover in leftovers:
            _remove(leftover)
    say("stopped" + (f"; images are kept in {place.data}" if keep_data else " and removed"))


def _remove_objects(place: Place) -> None:
    """Remove containers and networks through the engine: only it takes its bridges and packet rules away again."""
    for container in ask(place.socket, "GET", "/containers/json?all=1"):
        with contextlib.suppress(OSError):  # one that removes itself meanwhile; the daemon's end stops the rest
            ask(place.socket, "DELETE", f"/containers/{container['Id']}?force=1&v=1", timeout=60.0)
    for network in ask(place.socket, "GET", "/networks"):
        if network["Name"] not in {"none", "host", "bridge"}:
            with contextlib.suppress(OSError):
                ask(place.socket, "DELETE", f"/networks/{network['Id']}")


def _stop_daemon(place: Place) -> None:
    pid = place.pid()
    if pid is None:
        return
    for number, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if place.pid() is None:
                return
            time.sleep(0.1)
    raise EngineError(f"dockerd (pid {pid}) does not end. Its log: {place.log}")


def _unmount(top: Path) -> None:
    """Unmount everything below a directory, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]
    for point in sorted((p for p in points if p.is_relative_to(top)), key=lambda p: len(p.parts), reverse=True):
        subprocess.run(["umount", "--lazy", str(point)], check=False)


def _remove(path: Path) -> None:
    """Remove one thing of ours; a link is removed itself, never what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the engine's lock; the lock file also marks the directory as ours, and is never removed."""
    marker = place.directory / MARKER
    if place.directory.exists() and any(place.directory.iterdir()) and not marker.exists():
        raise EngineError(f"{place.directory} holds other things; name an empty or new directory with BOTTLE_ENGINE_DIR.")
    place.directory.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def as_root(place: Place, arguments: argparse.Namespace) -> NoReturn:
    """Go on as root through sudo on a terminal; without one, say the exact command and end."""
    flags = [flag for flag in ("private", "keep_data") if getattr(arguments, flag)]
    command = ["sudo", sys.executable, str(Path(__file__).resolve()), arguments.verb, "--dir", str(place.directory)]
    command += [f"--{flag.replace('_', '-')}" for flag in flags]
    if sys.stdin.isatty() and shutil.which("sudo"):
        say(f"this needs root: {shlex.join(command)}")
        os.execvp(command[0], command)  # noqa: S606 - sudo asks on this very terminal
    raise EngineError(f"this needs root. Run:\n  {shlex.join(command)}")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one verb and return the exit code."""
    place = Place(Path(arguments.dir).resolve())
    if arguments.verb == "env":
        answers = version_at(place.socket)
        print(f"export DOCKER_HOST={shlex.quote(place.url)}" if answers else "# no private engine runs: nothing to set")
        return 0
    if arguments.verb == "status":
        version = version_at(place.socket)
        print(f"engine {version} answers at {place.url}" if version else f"no engine answers at {place.url}")
        return 0 if version else 1
    if arguments.verb == "start" and not arguments.private:
        found = users_engine(place)
        if found:
            say(f"{found} answers already; --private would start one of our own")
            return 0
    if arguments.verb == "start" and version_at(place.socket):
        say(f"the private engine answers already at {place.url}")
        return 0
    if os.geteuid() != 0:
        as_root(place, arguments)
    if arguments.verb == "stop":
        stop(place, keep_data=arguments.keep_data)
        return 0
    install_missing()
    start(place)
    return 0


def main() -> int:
    """Read the command line; an error becomes one clear message and exit code 1."""
    parser = argparse.ArgumentParser(description="A private Docker engine for bottle-fsm.")
    parser.add_argument("verb", choices=["start", "stop", "status", "env"])
    parser.add_argument("--private", action="store_true", help="start: even where another engine answers")
    parser.add_argument("--keep-data", action="store_true", help="stop: keep images for the next start")
    default = os.environ.get("BOTTLE_ENGINE_DIR") or str(REPO / ".build" / "engine")
    parser.add_argument("--dir", default=default, help="where it lives (BOTTLE_ENGINE_DIR; default .build/engine)")
    try:
        return run(parser.parse_args())
    except (EngineError, OSError) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
