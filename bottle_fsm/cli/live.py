"""LiveTable: follows launches on a terminal, with the story scrolling above it. The only importer of rich."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bottle_fsm.cli.story import Story, Tone
from bottle_fsm.model import Event
from bottle_fsm.safetext import safe
from bottle_fsm.store import kinds
from bottle_fsm.store.record import TORN_DOWN

_STYLES: Final[dict[Tone, str]] = {"plain": "", "good": "green", "bad": "red", "quiet": "dim"}
_STEPS: Final = frozenset({kinds.STEP_INTENT, kinds.INTENT, kinds.UNDO_INTENT})
_ENDS: Final = frozenset({"provisioned", TORN_DOWN})
_PER_SECOND: Final = 8


@dataclass
class _Row:
    state: str = "…"
    step: str = ""
    since: float = field(default_factory=time.monotonic)
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class LiveTable:
    """A row for each bottle: its name, its state, what happens now, and for how long."""

    def __init__(self, story: Story, bottles: Sequence[str], *, console: Console | None = None) -> None:
        self._story = story
        self._rows = {bottle: _Row() for bottle in bottles}
        self._note = ""
        self._console = console or Console(stderr=True, highlight=False)
        self._live = self._begin()

    def event(self, event: Event) -> None:
        """Let the row follow, and print the event's lines above the table."""
        row = self._rows.setdefault(event.bottle, _Row())
        if event.kind in _STEPS:
            row.step = str(event.evidence.get("step") or event.trigger)
            row.since = time.monotonic()
        if event.kind in {kinds.DONE, kinds.SKIPPED, kinds.DECLARED}:
            row.state, row.step, row.since = event.dest, "", time.monotonic()
        for line in self._story.tell(event):
            self.say(line.text, line.tone)

    def progress(self, bottle: str, text: str) -> None:
        """Show it as the row's step."""
        self._rows.setdefault(bottle, _Row()).step = text

    def say(self, text: str, tone: Tone = "plain") -> None:
        """Print a line above the table; the terminal wraps it, so that it is copied in one piece."""
        self._console.print(Text(text, _STYLES[tone]), soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a line below the table from its next refresh on: a signal handler cannot wait for the console."""
        self._note = text

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the table away while a question stands on the terminal."""
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._begin()

    def close(self) -> None:
        """Take the table away; what was printed stays, and so does the note."""
        self._live.stop()
        if self._note:
            self.say(safe(self._note))

    def __rich__(self) -> RenderableType:
        """Draw the table as of now."""
        table = Table.grid(padding=(0, 2))
        for bottle, row in list(self._rows.items()):
            ended = row.state in _ENDS
            sign: RenderableType = Text("✓", "green") if ended else row.spinner
            elapsed = "" if ended else f"{time.monotonic() - row.since:.0f} s"
            table.add_row(sign, Text(safe(bottle)), Text(safe(row.state), "bold"), Text(safe(row.step)), elapsed)
        return Group(table, Text(safe(self._note), "yellow")) if self._note else table

    def _begin(self) -> Live:
        live = Live(self, console=self._console, refresh_per_second=_PER_SECOND, transient=True)
        live.start()
        return live
