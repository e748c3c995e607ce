"""Failpoints: named places where a test can kill, break or delay a launcher. Off unless the environment turns one on.

`BOTTLE_FSM_FAILPOINT` holds `WHERE=ACTION`. WHERE is a point's name, `NAME#3` for the third time it is passed, or `#17`
for the seventeenth point passed, whatever its name. ACTION is `kill` (SIGKILL to this process), `raise` (a transient
error of the engine: at `step.acted` this is a lost reply), `crash` (an exception nobody expects), `sleep:SECONDS`, or
`signal:NUMBER` (sent to this process; `signal:2,2` sends two, one after the other).
`BOTTLE_FSM_FAILPOINT_TRACE` names a file that gets a line for each point passed, in order.

Not its duty: knowing what a point means. Source of the idea: debug points right after commits make crash tests exact.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from typing import Final

from bottle_fsm.errors import TransientError, UsageError

VARIABLE: Final = "BOTTLE_FSM_FAILPOINT"
TRACE: Final = "BOTTLE_FSM_FAILPOINT_TRACE"
POINTS: Final = frozenset(
    {
        "journal.open",
        "intent.before",
        "intent.after",
        "step.intent.before",
        "step.intent.after",
        "step.acted",
        "step.done.after",
        "done.before",
        "done.after",
        "failed.after",
        "retry.before",
        "settle.looked",
        "undo.intent.before",
        "undo.intent.after",
        "undo.acted",
        "undo.done.after",
        "empty.looked",
        "engine.called",
        "exec.started",
        "copy.sending",
    }
)
"""Every point there is; a test holds this list against the calls in the code."""


class _Switch:
    """What is turned on in this process, and how often each point was passed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.arm(os.environ.get(VARIABLE, ""), os.environ.get(TRACE, ""))

    def arm(self, text: str, trace: str = "") -> None:
        """Turn a failpoint on; an empty text turns everything off."""
        self.where, _, self.action = text.partition("=")
        self.trace = trace
        self.passed: Counter[str] = Counter()
        self.total = 0
        name = self.where.partition("#")[0]
        if name and name not in POINTS:
            raise UsageError(
                f"there is no failpoint {name!r}", place=VARIABLE, hint=f"Known: {', '.join(sorted(POINTS))}."
            )

    def meets(self, name: str, detail: str) -> bool:
        """Count a passing; tell whether it is the one that was asked for."""
        with self._lock:
            self.passed[name] += 1
            self.total += 1
            count, total = self.passed[name], self.total
        if self.trace:
            with open(self.trace, "a", encoding="utf-8") as file:  # noqa: PTH123 - one line, appended at once
                file.write(f"{total} {name}#{count} {detail}\n")
        wanted, _, number = self.where.partition("#")
        if not wanted:
            return number == str(total)
        return wanted == name and number in {"", str(count)}


_switch = _Switch()


def arm(text: str, trace: str = "") -> None:
    """Turn a failpoint on in this process, as the environment would; an empty text turns everything off."""
    _switch.arm(text, trace)


def hit(name: str, detail: str = "") -> None:
    """Pass a point: nothing happens unless it was turned on.

    Raises:
        TransientError: the action is `raise`.
        RuntimeError: the action is `crash`.
    """
    if not (_switch.where or _switch.trace) or not _switch.meets(name, detail):
        return
    action, _, argument = _switch.action.partition(":")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise TransientError(f"failpoint {name}: the reply was lost", place=detail or None)
    elif action == "crash":
        raise RuntimeError(f"failpoint {name}")
    elif action == "sleep":
        time.sleep(float(argument))
    elif action == "signal":
        for number in argument.split(","):
            os.kill(os.getpid(), int(number))
