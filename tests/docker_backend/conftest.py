"""Bottles on the real engine for the tests of the Docker backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from docker_backend.launch_bench import LaunchBench, manifest
from lean_image import WHOLE


@pytest.fixture
def bench(engine: Engine, images: dict[str, ImageRef], tmp_path: Path) -> Iterator[LaunchBench]:
    """A bottle that is planned and not started."""
    made = LaunchBench.make(engine, tmp_path, manifest())
    yield made
    made.clean()


@pytest.fixture(scope="module")
def _kept(
    engine: Engine, images: dict[str, ImageRef], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchBench]:
    made = LaunchBench.make(engine, tmp_path_factory.mktemp("standing"), manifest())
    yield made
    made.clean()


@pytest.fixture
def standing(_kept: LaunchBench) -> LaunchBench:
    """A bottle whose agent runs, mended before each test: one begins with it and may break what it likes."""
    _kept.mend()
    return _kept


@pytest.fixture(scope="module")
def running(
    engine: Engine, images: dict[str, ImageRef], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchBench]:
    """A bottle whose agent runs, shared by the tests of a file that leave it as it was."""
    made = LaunchBench.make(engine, tmp_path_factory.mktemp("running"), manifest(image=WHOLE))
    try:
        made.up()
        yield made
    finally:
        made.clean()
