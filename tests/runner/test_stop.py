"""Signals: the first asks, the second stops at once; sleeps are cut short."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from bottle_fsm.errors import InterruptedLaunchError
from bottle_fsm.runner.stop import NeverStop, Stop, on_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asks_at_the_first_signal_and_raises_at_the_second(signum: int) -> None:
    stop, told = Stop(), list[int]()
    with on_signals(stop, told.append):
        os.kill(os.getpid(), signum)
        assert (stop.signum, told) == (signum, [signum])
        with pytest.raises(InterruptedLaunchError):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_puts_the_handlers_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_signals(Stop(), lambda signum: None):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_lets_work_go_on_while_nobody_asked() -> None:
    stop = Stop()
    stop.check()
    stop.sleep(0.01)
    stop.sleep(-1)


def test_cuts_a_sleep_short() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.request, (2,)).start()
    started = time.monotonic()
    with pytest.raises(InterruptedLaunchError) as caught:
        stop.sleep(30)
    assert time.monotonic() - started < 5
    assert caught.value.signum == 2


def test_is_never_stopped_during_a_compensation() -> None:
    stop = NeverStop()
    stop.request(2)
    stop.check()
