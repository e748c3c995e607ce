"""Terminal: the `People` of the command line. Shows events on the displays, asks questions on the terminal."""

from __future__ import annotations

import threading
from typing import Final

from bottle_fsm.cli import prompt
from bottle_fsm.cli.display import Displays
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Event
from bottle_fsm.runner.stop import Stop
from bottle_fsm.secret import Secret

_YES: Final = frozenset({"y", "yes"})


class Terminal:
    """The person at this terminal, if there is one. See `runner.people.People`."""

    def __init__(self, displays: Displays, stop: Stop, *, yes: bool) -> None:
        self._displays = displays
        self._stop = stop
        self._yes = yes
        self._one = threading.Lock()

    def committed(self, event: Event) -> None:
        """Show an event."""
        self._displays.event(event)

    def progress(self, bottle: str, text: str) -> None:
        """Show progress."""
        self._displays.progress(bottle, text)

    def ask(self, bottle: str, question: str) -> Secret:
        """Ask for a text without echo.

        Raises:
            DecisionNeededError: there is no terminal.
        """
        if not prompt.on_terminal():
            raise DecisionNeededError(
                f"a value is needed: {question}",
                place=bottle,
                hint="Run it on a terminal, or let the manifest take it from a host variable",
            )
        return Secret(self._answer(f"{bottle}: {question}:", echo=False))

    def consent(self, bottle: str, question: str, *, hint: str) -> None:
        """Return when `--yes` was given, or a person says yes.

        Raises:
            DecisionNeededError: nobody agreed.
        """
        if self._yes:
            return
        if not prompt.on_terminal():
            raise DecisionNeededError(question, place=bottle, hint=hint)
        if self._answer(f"{bottle}: {question}. Go on? [y/N]", echo=True).strip().lower() not in _YES:
            raise DecisionNeededError(f"not agreed: {question}", place=bottle, hint=hint)

    def _answer(self, question: str, *, echo: bool) -> str:
        with self._one, self._displays.aside():
            return prompt.ask(question, echo=echo, check=self._stop.check)
