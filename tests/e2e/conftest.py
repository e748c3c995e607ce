"""What the acceptance tests ask for: a person's place on the real engine, and a made-up internet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from e2e_bench import Bench
from engine_world import EngineWorld, outside_world


@pytest.fixture
def bench(engine: Engine, images: dict[str, ImageRef], tmp_path: Path) -> Iterator[Bench]:
    """A fresh place; whatever the test leaves is taken away."""
    made = Bench(tmp_path, engine)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def shared(engine: Engine, images: dict[str, ImageRef], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One place for the tests of a file."""
    made = Bench(tmp_path_factory.mktemp("shared"), engine)
    yield made
    made.clean()


@pytest.fixture(scope="session")
def world(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineWorld]:
    """A made-up internet, one for each worker."""
    with outside_world(engine, tmp_path_factory.mktemp("outside")) as made:
        yield made
