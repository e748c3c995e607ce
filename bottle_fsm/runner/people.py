"""People: what the runner may show and ask. The command line implements it; a library user may leave it silent."""

from __future__ import annotations

from typing import Protocol

from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Event
from bottle_fsm.secret import Secret


class People(Protocol):
    """The person, or program, on whose behalf a launch runs."""

    def committed(self, event: Event) -> None:
        """An event is on disk. Must not raise."""
        ...

    def progress(self, bottle: str, text: str) -> None:
        """Something worth showing happens inside a sub-step. Must not raise."""
        ...

    def ask(self, bottle: str, question: str) -> Secret:
        """Ask for a text without echo.

        Raises:
            DecisionNeededError: nobody is there to answer.
        """
        ...

    def consent(self, bottle: str, question: str, *, hint: str) -> None:
        """Return when the question was answered with yes.

        Raises:
            DecisionNeededError: it was not.
        """
        ...


class Silent:
    """Shows nothing, answers nothing; agrees to everything when made with `yes`."""

    def __init__(self, *, yes: bool = False) -> None:
        self._yes = yes

    def committed(self, event: Event) -> None:
        """Show nothing."""

    def progress(self, bottle: str, text: str) -> None:
        """Show nothing."""

    def ask(self, bottle: str, question: str) -> Secret:
        """Refuse: nobody is there."""
        raise DecisionNeededError(f"a value is needed: {question}", place=bottle, hint="Run it on a terminal.")

    def consent(self, bottle: str, question: str, *, hint: str) -> None:
        """Agree only if made with `yes`."""
        if not self._yes:
            raise DecisionNeededError(question, place=bottle, hint=hint)
