"""Deaths between sub-steps: the runner's own steps, with a launcher that is gone at a boundary that a test chose.

The exception is none that anybody catches, so nothing is committed after it: the journal is left as by `kill -9`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bottle_fsm.runner.steps import RunnerSteps

Chooser = Callable[[str], bool]


class DiedError(BaseException):
    """The launcher is gone."""


def _never(_name: str) -> bool:
    return False


@contextmanager
def reaped(*, before: Chooser = _never, begun: Chooser = _never, acted: Chooser = _never) -> Iterator[list[str]]:
    """Let the launcher die where one of the choosers says so, given a sub-step's name; lend the names that it died at.

    `before` the intent is committed, when it is committed and nothing was done (`begun`), or when everything was done
    and the outcome is not committed (`acted`).
    """
    deaths: list[str] = []

    def ask(chooser: Chooser, name: str) -> None:
        if chooser(name):
            deaths.append(name)
            raise DiedError(name)

    class ReapedSteps(RunnerSteps):
        @contextmanager
        def act(self, name: str, *, cause: str, role: str = "") -> Iterator[Any]:
            ask(before, name)
            with super().act(name, cause=cause, role=role) as step:
                ask(begun, name)
                yield step
                ask(acted, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bottle_fsm.runner.drive.RunnerSteps", ReapedSteps)
        try:
            yield deaths
        except DiedError:
            assert deaths


def at_the(number: int) -> Chooser:
    """Choose the sub-step of that number, counted from 1."""
    seen: list[str] = []

    def chooser(name: str) -> bool:
        seen.append(name)
        return len(seen) == number

    return chooser
