"""The sandbox's first process is a Python, and agents clean up with `pkill python3`: no signal from inside ends it."""

from __future__ import annotations

import os
import signal
from typing import Final

import pytest

from bottle_fsm.backend.local import proc
from local_sandbox.held_sandbox import holding, wait_for
from local_sandbox.sandbox_room import Room

EVERY: Final = "import os, signal\nfor n in signal.valid_signals():\n    os.kill(1, n)\n"
BY_NAME: Final = "import os; os.system('pkill python3; pkill -INT -f inner.proc; killall -w -q python3; kill -TERM 1')"
LIE: Final = """
import ctypes, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
for code in (0, -1, -2, -6, 0x80):
    libc.syscall({number}, 1, int(signal.SIGTERM), struct.pack("3i4xiI104x", signal.SIGTERM, 0, code, 0, 0))
"""
"""Says that nobody in here sent it, in each of the ways that a sender may choose himself."""
RT_SIGQUEUEINFO: Final = {"x86_64": 129, "aarch64": 138}.get(os.uname().machine)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(EVERY, id="every signal there is"),
        pytest.param(BY_NAME, id="by name"),
        pytest.param(
            LIE.format(number=RT_SIGQUEUEINFO),
            id="with a false sender",
            marks=pytest.mark.skipif(RT_SIGQUEUEINFO is None, reason="the call's number is unknown here"),
        ),
    ],
)
def test_no_signal_from_inside_ends_the_sandbox_and_one_from_outside_does(script: str, room: Room) -> None:
    with holding(room) as held:
        known = held.up().known()
        held.bottle().exec(["/usr/bin/python3", "-c", script])
        assert held.inside("echo well") == "well"
        assert proc.is_alive(known)
        os.kill(known.pid, signal.SIGTERM)
        assert wait_for(held.ended, "the end, by the same signal from outside")["code"] == 0
