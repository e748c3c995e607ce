"""Fixtures for every test that needs a real engine: it is brought up, never skipped, and shared by all workers.

`BOTTLE_ENGINE_KEEP=1` leaves an engine that the tests started running; images are kept in any case.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.images import IMAGE_NAMES, ImageRef, ensure_image
from lean_image import ensure_lean

REPO = Path(__file__).resolve().parent.parent
BUILD = REPO / ".build"
SCRIPT = REPO / "scripts" / "engine.py"
STARTED_BY_TESTS = BUILD / "engine-started-by-tests"


def run_engine_script(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the engine script as make does and return what it left."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@contextmanager
def _lock(name: str, kind: int) -> Iterator[None]:
    BUILD.mkdir(exist_ok=True)
    with (BUILD / name).open("a") as file:
        fcntl.flock(file, kind)
        yield


def _bring_up() -> str:
    """Start the engine if none answers, and return its address. One worker at a time."""
    with _lock("engine-tests-start.lock", fcntl.LOCK_EX):
        private_ran = run_engine_script("status").returncode == 0
        done = run_engine_script("start")
        if done.returncode != 0:
            pytest.fail(f"the engine for the tests cannot be brought up:\n{done.stderr}")
        address = run_engine_script("env").stdout.strip()
        if not address.startswith("export DOCKER_HOST="):  # the user's own engine answered
            return connect(os.environ).url
        if not private_ran:
            STARTED_BY_TESTS.touch()
        return address.partition("=")[2].strip("'")


def _take_down() -> None:
    """Stop the engine if the tests started it and this is the last worker that used it."""
    with (BUILD / "engine-tests-users.lock").open("a") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another worker still works; the last one stops the engine
        if STARTED_BY_TESTS.exists():
            done = run_engine_script("stop", "--keep-data")
            assert done.returncode == 0, done.stderr
            STARTED_BY_TESTS.unlink()


@pytest.fixture(scope="session")
def engine_host() -> Iterator[str]:
    """The address of a running engine, as `DOCKER_HOST` takes it."""
    with _lock("engine-tests-users.lock", fcntl.LOCK_SH):
        yield _bring_up()
    if not os.environ.get("BOTTLE_ENGINE_KEEP"):
        _take_down()


@pytest.fixture(scope="session")
def engine(engine_host: str) -> Iterator[Engine]:
    """The engine, connected."""
    connected = connect({**os.environ, "DOCKER_HOST": engine_host})
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, ImageRef]:
    """Both images of ours, built if their content changed, and the lean one that most launches of tests take."""
    made: dict[str, ImageRef] = {
        name: ensure_image(engine, name, say=print, data_dir=BUILD / "images") for name in IMAGE_NAMES
    }
    with _lock("lean-image.lock", fcntl.LOCK_EX):
        ensure_lean(engine, made["agent"].id)
    return made
