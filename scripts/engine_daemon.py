"""The life of a private engine: start its daemon, wait until it answers, take all of it away again.

Its duty: one dockerd and what it leaves. Not its duty: installing it, or choosing between engines. Standard library
only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from engine_place import MARKER, EngineError, Place, ask, live_pid, say, version_at

ANSWER_TIMEOUT = 60.0


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
        version = version_at(place.socket) or _start_daemon(place)
    say(f"engine {version} answers at {place.url} (data {place.data}, log {place.log})")


def _start_daemon(place: Place) -> str:
    if place.pid() is not None:
        _stop_daemon(place)  # it lives and does not answer: start it afresh
    refuse_neighbour()
    place.run.mkdir(parents=True, exist_ok=True)
    place.pidfile.unlink(missing_ok=True)
    containerd = place.run / "exec" / "containerd"
    if live_pid(containerd / "containerd.pid", argument=str(containerd / "containerd.toml")) is None:
        # A pid that became another process, or a zombie, would make dockerd wait for it in vain.
        (containerd / "containerd.pid").unlink(missing_ok=True)
    command = daemon_command(place)
    with place.log.open("ab") as log:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    version = _wait_for_answer(place, daemon)
    if "SUDO_UID" in os.environ:
        os.chown(place.socket, int(os.environ["SUDO_UID"]), -1)
    return version


def refuse_neighbour() -> None:
    """Refuse to run beside another dockerd of this network namespace.

    At its start a dockerd flushes the packet filter chains that all engines share: the other's networks would lose
    their isolation, and nobody would be told.
    """
    own = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # one that ended meanwhile
            is_dockerd = (process / "comm").read_text().strip() == "dockerd"
            if is_dockerd and (process / "ns" / "net").readlink() == own:
                raise EngineError(
                    f"another dockerd (pid {process.name}) runs on this machine. Two would overwrite each other's "
                    "packet filter. Use that one (DOCKER_HOST), or stop it first."
                )


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
    with locked(place):
        if not version_at(place.socket) and place.run.exists():
            _start_daemon(place)  # it was killed: only itself can take its containers, bridges and packet rules away
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
        raise EngineError(
            f"{place.directory} holds other things; name an empty or new directory with BOTTLE_ENGINE_DIR."
        )
    place.directory.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
