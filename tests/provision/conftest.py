"""Fixtures of the provisioning tests: a bench of real containers a module, and an agent of its own a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from provision_bench import Bench, RecordedSteps


@pytest.fixture(scope="module")
def bench(engine: Engine) -> Iterator[Bench]:
    made = Bench(engine)
    yield made
    made.close()


@pytest.fixture(scope="module")
def network(bench: Bench) -> str:
    return bench.network()


@pytest.fixture(scope="module")
def agent(bench: Bench, network: str, images: dict[str, ImageRef]) -> DockerBottle:
    """An agent that the tests of a module share; a test that needs a clean one asks `bench` for it."""
    return bench.agent(images["agent"].id, network)


@pytest.fixture
def steps() -> RecordedSteps:
    return RecordedSteps()
