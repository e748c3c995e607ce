"""Sandboxes as both kinds of launcher start them: one that is root and drops, and one that never was."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.local.confine import Identity, identity
from bottle_fsm.naming import ROLE_AGENT
from local_sandbox.local_bench import Tenant
from local_sandbox.sandbox_room import USER, Room


@pytest.fixture(params=["root", "user"])
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    """A directory that sandboxes are started from; root's cannot be walked into by anybody else."""
    launcher: str = request.param
    if launcher == "root" and os.geteuid() != 0:
        pytest.skip("only root can start one as root")
    folder = Path(tempfile.mkdtemp(prefix="bottle-room-"))
    made = Room(folder, launcher, identity(ROLE_AGENT) if launcher == "root" else Identity(None, None))
    if launcher == "user" and os.geteuid() == 0:
        os.chown(folder, USER, USER)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """One bottle for all tests that only look."""
    made = Tenant(tmp_path_factory.mktemp("walls"))
    made.ok("apply", made.write(), "--backend", "local")
    yield made
    made.clean()


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    """A place of its own for a test that breaks something."""
    made = Tenant(tmp_path)
    yield made
    made.clean()
