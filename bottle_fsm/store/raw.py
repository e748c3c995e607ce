"""The events as they are stored: sequence, bytes, hash. For whoever checks or exports them, even damaged ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bottle_fsm.errors import StoreError
from bottle_fsm.store.journal import DATABASE

Row = tuple[int, bytes, str]


def raw_rows(directory: Path) -> Iterator[Row]:
    """Yield every event's sequence, stored bytes and hash, in order; none when there is no journal.

    Nothing is interpreted, so that an event that is no event any more does not hide the ones beside it.

    Raises:
        StoreError: the database cannot be read.
    """
    path = directory / DATABASE
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            for sequence, body, stored in reader.execute("SELECT sequence, body, hash FROM event ORDER BY sequence"):
                yield int(sequence), body if isinstance(body, bytes) else str(body).encode(), str(stored)
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the journal: {error}", place=str(path)) from error
