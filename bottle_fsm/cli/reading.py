"""The journal for readers: without a lock, without an engine, and without making a directory that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bottle_fsm.errors import StoreError
from bottle_fsm.store.journal import DATABASE, Journal
from bottle_fsm.store.record import BottleRecord


@contextmanager
def reading(directory: Path) -> Iterator[Journal | None]:
    """Open the journal of a state directory; None when nothing was ever recorded there.

    A directory that was copied from another machine can be read: only acting on it is refused.

    Raises:
        StoreError: it cannot be read.
    """
    if not (directory / DATABASE).exists():
        yield None
        return
    journal = Journal(directory, root_id(directory))
    try:
        yield journal
    finally:
        journal.close()


def root_id(directory: Path) -> str:
    """Return the id of a state directory that exists.

    Raises:
        StoreError: it has none that can be read.
    """
    path = directory / "root.json"
    try:
        return str(json.loads(path.read_text())["root"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the state directory's identity cannot be read: {error}", place=str(path)) from error


def records(directory: Path) -> list[BottleRecord]:
    """Return the records of all bottles of a state directory, by name."""
    with reading(directory) as journal:
        return journal.records() if journal else []
