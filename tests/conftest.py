"""What every test may ask for. Engine fixtures bring the engine up themselves."""

from __future__ import annotations

from typing import Final

import pytest

pytest_plugins = ["crash_place", "engine_fixtures", "runner_bench"]

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
