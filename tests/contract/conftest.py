"""Every backend passes one suite. A backend joins by a place and a line in each of the two tables below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.contract_deaths import die_everywhere
from contract.contract_place import Deviation, Place
from contract.docker_place import DockerPlace
from contract.fake_place import FakePlace
from contract.local_place import LocalPlace

# The one list of what differs between the backends' suites. Everything else is the same test.
DEVIATIONS = {
    # Every kill gets a launch of its own: a simulated launch takes a fraction of a second.
    # The world is a file below the state root, where no secret value may ever stand: inside are names only.
    "fake": Deviation(every_kth=1, shows_secrets_inside=False),
    # As on Docker, a launch takes seconds. It has no object for the outside network: the guard shares the machine's.
    "local": Deviation(every_kth=0, shows_secrets_inside=True),
    # A real launch takes seconds: one launch is killed once at each third sub-step instead, and goes on each time.
    "docker": Deviation(every_kth=0, shows_secrets_inside=True),
}

BACKENDS = [
    pytest.param("fake"),
    pytest.param("local"),
    # One group: its tests share the bottle that takes longest to make.
    pytest.param("docker", marks=[pytest.mark.engine]),
]


def _make(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    if kind == "fake":
        return FakePlace(folder, DEVIATIONS[kind])
    if kind == "local":
        return LocalPlace(folder, DEVIATIONS[kind])
    engine, images = request.getfixturevalue("engine"), request.getfixturevalue("images")
    return DockerPlace(folder, DEVIATIONS[kind], engine, images)


@pytest.fixture(scope="session", params=BACKENDS)
def backend_kind(request: pytest.FixtureRequest) -> str:
    """The backend under test."""
    return str(request.param)


@pytest.fixture
def place(backend_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place where nothing was launched yet."""
    made = _make(backend_kind, tmp_path, request)
    yield made
    made.clean()


@pytest.fixture(scope="session")
def shared_home(
    backend_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A place with a provisioned bottle whose launch was watched, for all tests of one backend."""
    made = _make(backend_kind, tmp_path_factory.mktemp(f"home-{backend_kind}"), request)
    try:
        made.people.on_event = made.watch
        made.mend()
        made.people.on_event = lambda event: None
        yield made
    finally:
        made.clean()


@pytest.fixture
def home(shared_home: Place) -> Place:
    """The shared bottle as its manifest says, for tests that leave it so."""
    shared_home.mend()
    return shared_home


@pytest.fixture
def worn_home(home: Place) -> Place:
    """The shared bottle, for a test that does something to it: unless it says so, the next one finds it mended."""
    home.condition = "worn"
    return home


@pytest.fixture(scope="session")
def survivor(
    backend_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, list[str]]]:
    """A place whose launcher died again and again, provisioned in the end; and at which sub-steps it died."""
    made = _make(backend_kind, tmp_path_factory.mktemp(f"survivor-{backend_kind}"), request)
    try:
        yield made, die_everywhere(made)
    finally:
        made.clean()
