from __future__ import annotations

import threading
import time

from bottle_fsm.doctor.bounded import Look, begin, bounded
from bottle_fsm.errors import StoreError


def test_gives_what_a_look_gives() -> None:
    assert bounded(lambda: 5) == Look(5)


def test_turns_our_errors_into_problem_and_hint() -> None:
    def look() -> int:
        raise StoreError("it is damaged", hint="Restore it")

    assert bounded(look) == Look(None, "it is damaged", "Restore it")


def test_turns_every_other_exception_into_a_problem() -> None:
    def look() -> int:
        raise SystemExit(9)

    assert bounded(look) == Look(None, "SystemExit: 9")


def test_does_not_wait_for_a_look_that_does_not_end() -> None:
    end = threading.Event()
    began = time.monotonic()
    found = bounded(end.wait, seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 2
    assert found == Look(None, "no answer within 0.2 s", late=True)
    end.set()


def test_looks_at_several_things_at_the_same_time() -> None:
    together = threading.Barrier(3)
    waits = [begin(together.wait) for _ in range(3)]
    assert sorted(wait(5).value or 0 for wait in waits) == [0, 1, 2]
