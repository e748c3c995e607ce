#!/usr/bin/env python3
"""Bring up, and take down, a private Docker engine: `engine.py start|stop|status|env`.

Its duty: the command line, choosing between the user's engine and a private one, and installing what is missing from
Debian's packages. Standard library only: it runs before the project's environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from engine_daemon import locked, start, stop
from engine_place import MARKER, EngineError, Place, say, version_at

REPO = Path(__file__).resolve().parent.parent
PACKAGES = {  # a file that shows that the package is there, and the package
    "/usr/sbin/dockerd": "docker.io",
    "/usr/sbin/iptables": "iptables",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/sbin/update-ca-certificates": "ca-certificates",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


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
    elif host:
        return f"the engine at {host} is taken on trust, as there is no docker client to ask it"
    else:
        version = version_at(Path("/var/run/docker.sock"))
    if version:
        return f"engine {version} ({host or 'your default context'}) answers already"
    if host:
        raise EngineError(
            f"DOCKER_HOST={host} does not answer. "
            "Start that engine, unset DOCKER_HOST, or say --private for one of our own."
        )
    return None


def _version_by_client() -> str | None:
    """Ask through the docker client, which knows contexts, ssh and TLS."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=15, check=False, stdin=subprocess.DEVNULL
        )
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


def as_root(place: Place, arguments: argparse.Namespace) -> NoReturn:
    """Go on as root through sudo on a terminal; without one, say the exact command and end."""
    with locked(place):
        pass  # its directory is made by the user who asked, who can then remove it, too
    flags = [flag for flag in ("private", "keep_data") if getattr(arguments, flag)]
    command = ["sudo", sys.executable, str(Path(__file__).resolve()), arguments.verb, "--dir", str(place.directory)]
    command += [f"--{flag.replace('_', '-')}" for flag in flags]
    if sys.stdin.isatty() and shutil.which("sudo"):
        say(f"this needs root: {shlex.join(command)}")
        os.execvp(command[0], command)  # noqa: S606 - sudo asks on this very terminal
    raise EngineError(f"this needs root. Run:\n  {shlex.join(command)}")


def show_env(place: Place) -> int:
    """Print the line for a shell's `eval` that points its clients at the private engine."""
    answers = version_at(place.socket)
    print(f"export DOCKER_HOST={shlex.quote(place.url)}" if answers else "# no private engine runs: nothing to set")
    return 0


def show_status(place: Place) -> int:
    """Print whether the private engine answers; the exit code says it, too."""
    version = version_at(place.socket)
    print(f"engine {version} answers at {place.url}" if version else f"no engine answers at {place.url}")
    return 0 if version else 1


def nothing_to_do(place: Place, arguments: argparse.Namespace) -> str | None:
    """Return why `start` or `stop` has nothing to do, None when it has."""
    if arguments.verb == "stop":
        never = not (place.directory / MARKER).exists()
        return f"no engine was ever started in {place.directory}; nothing to stop" if never else None
    found = None if arguments.private else users_engine(place)
    if found:
        return f"{found}; --private would start one of our own"
    return f"the private engine answers already at {place.url}" if version_at(place.socket) else None


def run(arguments: argparse.Namespace) -> int:
    """Carry out one verb and return the exit code."""
    place = Place(Path(arguments.dir).resolve())
    if arguments.verb in {"env", "status"}:
        return show_env(place) if arguments.verb == "env" else show_status(place)
    reason = nothing_to_do(place, arguments)
    if reason:
        say(reason)
        return 0
    if os.geteuid() != 0:
        as_root(place, arguments)
    if arguments.verb == "stop":
        stop(place, keep_data=arguments.keep_data)
    else:
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
