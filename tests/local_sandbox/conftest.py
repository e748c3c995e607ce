"""One bottle for all tests that only look, and fresh places for those that break something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_sandbox.local_bench import Tenant


@pytest.fixture(scope="session")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    made = Tenant(tmp_path_factory.mktemp("walls"))
    made.ok("apply", made.write(), "--backend", "local")
    yield made
    made.clean()


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = Tenant(tmp_path)
    yield made
    made.clean()
