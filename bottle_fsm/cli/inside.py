"""Running something inside a bottle on this process's terminal or pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bottle_fsm.cli.target import Target
from bottle_fsm.errors import UsageError


def run_inside(target: Target, argv: Sequence[str], *, stdin: bool, tty: bool, workdir: str | None = None) -> int:
    """Run a command inside and return its exit code.

    Raises:
        UsageError: no command was given, or a terminal is asked for and there is none.
    """
    if not argv:
        raise UsageError("no command is given", place="COMMAND", hint="Write it after --")
    if tty and not sys.stdin.isatty():
        raise UsageError(
            "a terminal is asked for, but standard input is none", place="-t", hint="Leave -t away in scripts"
        )
    with _standard_input(wanted=stdin):
        return target.bottle().interact(list(argv), tty=tty, workdir=workdir)


@contextmanager
def _standard_input(*, wanted: bool) -> Iterator[None]:
    """Let the command inside find its input at its end, unless ours is wanted."""
    if wanted:
        yield
        return
    kept = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
