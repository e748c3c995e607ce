"""Steps: what an effect may tell and ask the runner while it works. The runner implements it; effects only know this.

An effect is cut into sub-steps, so that a launch killed anywhere is resumed from between them: `act` commits the
intent before the body runs and the outcome after it. A body that is left by an exception leaves its intent open, and
the next process treats it as unsettled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bottle_fsm.model import Resource
from bottle_fsm.secret import Secret


def removal(role: str) -> str:
    """Return the name of the sub-step that takes an object of a role away.

    Every backend gives it this name: the runner brings out what a sidecar decided before the sidecar goes.
    """
    return f"remove {role}"


class Step(Protocol):
    """One open sub-step."""

    def made(self, resource: Resource) -> None:
        """Record an object that this sub-step made, adopted or removed."""
        ...

    def fact(self, name: str, value: str) -> None:
        """Record something chosen while acting; committed with the sub-step, visible in `Steps.facts` from then on."""
        ...

    def evidence(self, name: str, value: Any) -> None:
        """Record a finding (JSON value, no secret) with the sub-step's outcome."""
        ...


class Steps(Protocol):
    """The runner's end of one attempt of one effect."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Facts of the launch, those of earlier sub-steps included."""
        ...

    @property
    def epoch(self) -> int:
        """The lock's epoch, for labels."""
        ...

    def act(self, name: str, *, cause: str, role: str = "") -> AbstractContextManager[Step]:
        """Open a sub-step: check epoch, signals and deadline, commit the intent, run the body, commit the outcome.

        Raises:
            LockLostError: another process owns the bottle by now.
            InterruptedLaunchError: a signal asked to stop; nothing was begun.
            StepTimeoutError: the attempt's time is over.
        """
        ...

    def skip(self, name: str, *, reason: str) -> None:
        """Record that a sub-step had nothing to do, and why."""
        ...

    def evidence(self, name: str, value: Any) -> None:
        """Record a finding (JSON value, no secret) with the transition's outcome."""
        ...

    def say(self, text: str) -> None:
        """Show progress to a person; nothing is recorded."""
        ...

    def remaining(self) -> float:
        """Return the seconds left of this attempt, at least 0; pollers wait no longer than this."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; cut short with InterruptedLaunchError by a signal, with StepTimeoutError by the deadline."""
        ...

    def secret(self, name: str) -> Secret:
        """Return the value of a secret variable of the manifest.

        Raises:
            DecisionNeededError: it is not available now.
        """
        ...

    def from_host(self, template: str) -> Secret:
        """Return a text of the manifest with every `${NAME}` filled in from the host's environment, as a secret.

        Raises:
            DecisionNeededError: a variable is not set now.
        """
        ...

    def token(self, purpose: str) -> Secret:
        """Return this launch's own random-looking token for a purpose, the same again after a crash; never stored."""
        ...

    def ask(self, question: str) -> Secret:
        """Ask a person on the terminal, without echo.

        Raises:
            DecisionNeededError: there is no terminal.
        """
        ...

    def consent(self, question: str, *, hint: str) -> None:
        """Return when a person agreed (`--yes`, or an answer on the terminal).

        Raises:
            DecisionNeededError: nobody agreed.
        """
        ...

    def resources(self) -> Sequence[Resource]:
        """Return every object that the journal says was made for this launch and not removed."""
        ...
