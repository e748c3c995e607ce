"""Errors say where, what and how to go on, and know their exit code."""

from __future__ import annotations

import pytest

from bottle_fsm import errors
from bottle_fsm.errors import BottleError, ChainBrokenError, InterruptedLaunchError, ManifestError, Problem

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, BottleError)]
EXIT_CODES = {
    "chain_broken": 2,
    "lock_held": 3,
    "lock_lost": 3,
    "decision_needed": 4,
    "launch_failed": 5,
    "teardown_incomplete": 6,
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_has_the_documented_exit_code(kind: type[BottleError]) -> None:
    assert kind.exit_code == EXIT_CODES.get(kind.code, 1)


def test_names_every_class_once() -> None:
    codes = [c.code for c in CLASSES]
    assert len(codes) == len(set(codes))


def test_says_where_what_and_how_to_go_on() -> None:
    assert str(BottleError("it broke", place="here", hint="Mend it.")) == "here: it broke. Mend it."
    assert str(BottleError("it broke")) == "it broke"


def test_lists_every_problem_of_a_file() -> None:
    problems = [Problem("f:1 a", "is wrong", "Do this."), Problem("f:2 b", "is missing")]
    error = ManifestError(problems)
    assert str(error) == "f:1 a: is wrong. Do this.\nf:2 b: is missing."
    assert (error.place, error.problem, error.hint) == ("f:1 a", "is wrong", "Do this.")


def test_carries_what_a_caller_acts_on() -> None:
    assert ChainBrokenError("is missing", sequence=7).sequence == 7
    assert str(ChainBrokenError("is missing", sequence=7)) == "event 7: is missing"
    assert InterruptedLaunchError(15).signum == 15
