"""A place for a case, in memory: a process that is killed loses nothing that it wrote, on disk or not."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bottle_fsm import failpoints
from crash_cases import Place
from crash_sweep import MEMORY


@contextmanager
def untraced() -> Iterator[None]:
    """Measure no coverage: these tests run the same lines thousands of times, and other tests assert each of them."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.fixture
def place() -> Iterator[Place]:
    memory = MEMORY if MEMORY.is_dir() else None
    with untraced(), tempfile.TemporaryDirectory(prefix="bottle-crash-", dir=memory) as top:
        made = Place(Path(top) / "case")
        made.begin()
        yield made
    failpoints.arm("")


def unmeasured() -> dict[str, str]:
    """Return the environment for a sweep's thousands of forks: other tests cover the same lines."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
