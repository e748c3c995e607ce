"""A place for a case, in memory: a process that is killed loses nothing that it wrote, on disk or not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm import failpoints
from crash_cases import Place
from crash_sweep import MEMORY


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="bottle-crash-", dir=MEMORY if MEMORY.is_dir() else None) as top:
        made = Place(Path(top) / "case")
        made.begin()
        yield made
    failpoints.arm("")


def unmeasured() -> dict[str, str]:
    """Return the environment for a sweep's thousands of forks: other tests cover the same lines."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
