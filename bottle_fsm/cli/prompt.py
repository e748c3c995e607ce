"""One question on the terminal, with or without echo, that a signal can end from any thread."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bottle_fsm.cli.streams import write_error
from bottle_fsm.safetext import safe

_LOOK: Final = 0.1
"""Seconds between two looks whether a signal came."""
_CHUNK: Final = 4096


def on_terminal() -> bool:
    """Tell whether somebody is there to be asked: both standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, *, echo: bool, check: Callable[[], None]) -> str:
    """Show a question and return the line that is typed, without its end; empty when the input ended.

    `check` is called again and again while we wait; what it raises ends the question.
    """
    descriptor = sys.stdin.fileno()
    typed = b""
    with _silent(descriptor, silent=not echo):
        # Only now: whoever answers the question as soon as it is shown must not be echoed.
        sys.stderr.write(safe(question) + " ")
        sys.stderr.flush()
        while not typed.endswith(b"\n"):
            check()
            if not select.select([descriptor], [], [], _LOOK)[0]:
                continue
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                break
            typed += chunk
    if not echo:
        write_error("")
    return typed.decode(errors="replace").rstrip("\r\n")


@contextmanager
def _silent(descriptor: int, *, silent: bool) -> Iterator[None]:
    """Keep what is typed off the screen while the body runs."""
    if not silent:
        yield
        return
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
