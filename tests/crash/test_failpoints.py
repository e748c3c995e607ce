"""A failpoint is off until the environment turns it on, and then fires exactly where it was told."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm import failpoints
from bottle_fsm.errors import TransientError, UsageError


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_does_nothing_unless_armed() -> None:
    failpoints.arm("")
    failpoints.hit("step.acted")


def test_fires_at_the_named_point_only() -> None:
    failpoints.arm("step.acted=raise")
    failpoints.hit("step.intent.after")
    with pytest.raises(TransientError, match=r"failpoint step\.acted"):
        failpoints.hit("step.acted", "create guard")


@pytest.mark.parametrize(("where", "passes"), [("step.acted#2", 2), ("#3", 3)])
def test_counts_to_the_asked_passing(where: str, passes: int) -> None:
    failpoints.arm(f"{where}=crash")
    for _ in range(passes - 1):
        failpoints.hit("step.acted")
    with pytest.raises(RuntimeError, match="failpoint"):
        failpoints.hit("step.acted")
    failpoints.hit("step.acted")


def test_sleeps_as_told() -> None:
    failpoints.arm("done.before=sleep:0.05")
    started = time.monotonic()
    failpoints.hit("done.before")
    assert time.monotonic() - started >= 0.05


def test_sends_signals_one_after_the_other() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        failpoints.arm(f"done.before=signal:{signal.SIGUSR1:d},{signal.SIGUSR1:d}")
        failpoints.hit("done.before")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [signal.SIGUSR1, signal.SIGUSR1]


def test_writes_down_what_was_passed(tmp_path: Path) -> None:
    failpoints.arm("", str(tmp_path / "trace"))
    failpoints.hit("intent.before", "plan")
    failpoints.hit("intent.before", "start_mitm")
    assert (tmp_path / "trace").read_text() == "1 intent.before#1 plan\n2 intent.before#2 start_mitm\n"


def test_refuses_a_name_that_is_no_point() -> None:
    with pytest.raises(UsageError, match=r"no failpoint 'step\.done'"):
        failpoints.arm("step.done=kill")
