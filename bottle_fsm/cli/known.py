"""Known: the bottles of a state directory that the words of a command line mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bottle_fsm.cli.choice import choose, choose_all
from bottle_fsm.cli.reading import records
from bottle_fsm.errors import UsageError
from bottle_fsm.store.record import TORN_DOWN, BottleRecord


def known(directory: Path, words: Sequence[str], *, every: bool) -> list[str]:
    """Return the names of the bottles that are meant: those named, or all that are not torn down.

    Raises:
        UsageError: a word means no bottle, or neither words nor `--all` were given, or both.
    """
    found = records(directory)
    if bool(words) == every:
        problem = "name bottles or give --all, not both" if every else "no bottle is named"
        raise UsageError(
            problem, place="BOTTLE", hint="Name one or more, or give --all; `bottle-fsm status` lists them"
        )
    if every:
        return [r.bottle for r in found if r.state != TORN_DOWN]
    return choose_all(words, [r.bottle for r in found])


def one(directory: Path, word: str) -> BottleRecord:
    """Return the record of the bottle that a word means.

    Raises:
        UsageError: it means none, or several.
    """
    found = {r.bottle: r for r in records(directory)}
    return found[choose(word, found)]
