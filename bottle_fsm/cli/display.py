"""Where a launch shows itself: the protocol of all displays, plain lines, and the fan-out that none can break."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from bottle_fsm.cli.story import Story
from bottle_fsm.cli.streams import write_error
from bottle_fsm.model import Event
from bottle_fsm.safetext import safe


class Display(Protocol):
    """One way to show a launch while it runs."""

    def event(self, event: Event) -> None:
        """An event was committed."""
        ...

    def progress(self, bottle: str, text: str) -> None:
        """Something worth showing happens inside a sub-step."""
        ...

    def say(self, text: str) -> None:
        """Say one line."""
        ...

    def note(self, text: str) -> None:
        """Say one line; called from a signal handler, too, so it must not wait for anything."""
        ...

    def aside(self) -> AbstractContextManager[object]:
        """Leave the terminal to a question while the body runs."""
        ...

    def close(self) -> None:
        """Show the last of it."""
        ...


class PlainLines:
    """Lines on standard error: for pipes, files and continuous integration."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._last: dict[str, str] = {}

    def event(self, event: Event) -> None:
        """Write the event's lines."""
        for line in self._story.tell(event):
            write_error(line.text)

    def progress(self, bottle: str, text: str) -> None:
        """Write a line, unless it repeats the one before."""
        if self._last.get(bottle) == text:
            return
        self._last[bottle] = text
        write_error(f"{safe(bottle)}    … {safe(text)}")

    def say(self, text: str) -> None:
        """Write a line."""
        write_error(text)

    def note(self, text: str) -> None:
        """Write a line past all buffers: the signal may have come in the middle of another write."""
        with contextlib.suppress(OSError):
            os.write(2, f"{text}\n".encode())

    def aside(self) -> AbstractContextManager[object]:
        """Lines need not make room."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is held back."""


class EventsOnly:
    """Hands events to a function, such as a log, and shows nothing else."""

    def __init__(
        self,
        write: Callable[[Event], None],
        close: Callable[[], None] = lambda: None,
        *,
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._write = write
        self._close = close
        self._note = note

    def event(self, event: Event) -> None:
        """Hand the event on."""
        self._write(event)

    def progress(self, bottle: str, text: str) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Hand the line on."""
        self._note(text)

    def aside(self) -> AbstractContextManager[object]:
        """Nothing to make room for."""
        return nullcontext()

    def close(self) -> None:
        """Close what the function writes to."""
        self._close()


class Displays:
    """All displays of one process. One that fails is put aside with a sentence, and the launch goes on."""

    def __init__(self, displays: Sequence[Display]) -> None:
        self._displays = list(displays)
        self._lock = threading.RLock()

    def event(self, event: Event) -> None:
        """Show an event on each."""
        self._each(lambda display: display.event(event))

    def progress(self, bottle: str, text: str) -> None:
        """Show progress on each."""
        self._each(lambda display: display.progress(bottle, text))

    def say(self, text: str) -> None:
        """Say a line on each."""
        self._each(lambda display: display.say(text))

    def note(self, text: str) -> None:
        """Say a line on each, without waiting for the lock: the signal may have come while we held it."""
        for display in list(self._displays):
            with contextlib.suppress(Exception):
                display.note(text)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        with contextlib.ExitStack() as stack:
            for display in self._displays:
                stack.enter_context(display.aside())
            yield

    def close(self) -> None:
        """Close each."""
        self._each(lambda display: display.close())

    def _each(self, show: Callable[[Display], None]) -> None:
        with self._lock:
            for display in list(self._displays):
                try:
                    show(display)
                except Exception as error:  # noqa: BLE001 - a full disk or a closed pipe must not end a launch
                    self._displays.remove(display)
                    write_error(f"warning: {type(display).__name__} stops showing: {safe(error)}")
