"""A look that ends in time, whatever happens: its value, or why there is none. Nothing is ever raised.

A look that does not end is left behind in a daemon thread, which ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bottle_fsm.errors import BottleError

T = TypeVar("T")

SECONDS: Final = 5.0
"""How long one look may take."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """How a look ended.

    Attributes:
        value: what it gave; None when it failed.
        problem: why it failed, one sentence without a full stop; empty when it did not. hint: how to go on, or empty.
        late: it did not end in time.
    """

    value: T | None
    problem: str = ""
    hint: str = ""
    late: bool = False


def bounded(look: Callable[[], T], *, seconds: float = SECONDS) -> Look[T]:
    """Look in a thread of its own for at most some seconds."""
    return begin(look)(seconds)


def begin(look: Callable[[], T]) -> Callable[[float], Look[T]]:
    """Begin to look, and return what waits for the end for at most so many seconds."""
    ended: list[Look[T]] = []

    def run() -> None:
        try:
            ended.append(Look(look()))
        except BottleError as error:
            ended.append(Look(None, error.problem, error.hint or ""))
        except BaseException as error:  # noqa: BLE001 - a doctor that falls ill helps nobody; the row says what it was
            ended.append(Look(None, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name="doctor", daemon=True)
    thread.start()

    def wait(seconds: float) -> Look[T]:
        thread.join(seconds)
        return ended[0] if ended else Look(None, f"no answer within {seconds:g} s", late=True)

    return wait
