"""Several bottles at once: none waits for the failure of another, and the highest exit code wins."""

from __future__ import annotations

import threading

import pytest

from bottle_fsm.errors import (
    BottleError,
    DecisionNeededError,
    InterruptedLaunchError,
    LaunchFailedError,
    TeardownIncompleteError,
)
from bottle_fsm.runner.many import Result, exit_code, run_many
from bottle_fsm.runner.verbs import Outcome
from bottle_fsm.store.record import BottleRecord


def well(bottle: str) -> Outcome:
    return Outcome("launched", BottleRecord(bottle))


def fail() -> Outcome:
    raise LaunchFailedError("no")


def test_runs_all_and_keeps_the_order() -> None:
    ended: list[str] = []
    results = run_many(
        {"a": lambda: well("a"), "b": fail, "c": lambda: well("c")},
        parallel=2,
        ended=lambda bottle, result: ended.append(bottle),
    )
    assert list(results) == ["a", "b", "c"]
    assert sorted(ended) == ["a", "b", "c"]
    assert isinstance(results["b"], LaunchFailedError)
    assert exit_code(list(results.values())) == 5


def test_runs_a_single_one_in_the_calling_thread() -> None:
    seen: list[threading.Thread] = []

    def work() -> Outcome:
        seen.append(threading.current_thread())
        return well("a")

    run_many({"a": work}, parallel=4, ended=lambda bottle, result: None)
    assert seen == [threading.current_thread()]


def test_lets_a_fault_of_ours_through() -> None:
    def broken() -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_many({"a": broken, "b": lambda: well("b")}, parallel=2, ended=lambda bottle, result: None)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        ([well("a")], 0),
        ([well("a"), BottleError("x")], 1),
        ([DecisionNeededError("x"), LaunchFailedError("x")], 5),
        ([TeardownIncompleteError("x"), LaunchFailedError("x")], 6),
        ([InterruptedLaunchError(2), well("a")], 130),
        ([InterruptedLaunchError(15)], 143),
    ],
)
def test_ends_with_the_highest_exit_code(results: list[Result], code: int) -> None:
    assert exit_code(results) == code
