"""How a signal reaches a running launch: a flag that sub-steps look at, and a wait that it cuts short."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bottle_fsm.errors import InterruptedLaunchError


class Stop:
    """A request to stop. The first signal sets it; the second one raises at once, and the journal makes that safe."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signum = 0

    def request(self, signum: int) -> None:
        """Ask every launch of this process to stop after its current sub-step."""
        self.signum = signum
        self._event.set()

    def check(self) -> None:
        """Raise if a stop was requested.

        Raises:
            InterruptedLaunchError: it was.
        """
        if self._event.is_set():
            raise InterruptedLaunchError(self.signum)

    def sleep(self, seconds: float) -> None:
        """Wait; cut short when a stop is requested.

        Raises:
            InterruptedLaunchError: it was.
        """
        if self._event.wait(max(0.0, seconds)):
            raise InterruptedLaunchError(self.signum)


class NeverStop(Stop):
    """For compensation after a first signal: it runs to its end unless a second signal ends the process."""

    def check(self) -> None:
        """Do nothing."""


@contextmanager
def on_signals(stop: Stop, notify: Callable[[int], None]) -> Iterator[None]:
    """Route SIGINT, SIGTERM and SIGHUP to `stop` while the body runs; `notify` tells the person what happens now."""

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum:
            raise KeyboardInterrupt
        stop.request(signum)
        notify(signum)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
