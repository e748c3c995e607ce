"""What every test may ask for. Engine fixtures bring the engine up themselves."""

from __future__ import annotations

import signal
from typing import Final

import pytest
from hypothesis import settings

pytest_plugins = ["crash_place", "engine_fixtures", "runner_bench"]

# How long an example takes says more about what else this machine does than about the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a job in the background has it, and everything it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FIRST: Final = ("local_sandbox", "crash", "e2e", "contract", "engine", "docker_backend", "provision", "doctor")
"""Directories whose files take longest: begun first, they do not keep one worker busy when the others are done. The
first two need no image of ours, which is built meanwhile."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest; within a file nothing moves."""
    tests = config.rootpath / "tests"

    def rank(item: pytest.Item) -> int:
        directory = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        return SLOW_FIRST.index(directory) if directory in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=rank)
