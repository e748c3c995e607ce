"""A state directory as an earlier moment left it: the journal cut to a prefix of its events, the world as it is now."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from bottle_fsm.model import Event
from bottle_fsm.store import schema
from bottle_fsm.store.journal import DATABASE, Journal
from bottle_fsm.store.root import open_root
from crash_cases import Place


def committed(place: Place) -> list[Event]:
    """Return all events of a place's journal, in order."""
    root = open_root(place.state)
    journal = Journal(root.path, root.root_id)
    try:
        return list(journal.events())
    finally:
        journal.close()


def cut(place: Place, length: int) -> None:
    """Leave the first `length` events: a new database with their stored bytes, and its caches made again."""
    path = place.state / DATABASE
    with closing(sqlite3.connect(path)) as old:
        rows = old.execute("SELECT * FROM event WHERE sequence <= ? ORDER BY sequence", (length,)).fetchall()
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (place.state / name).unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        schema.migrate(new)
        new.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)
    root = open_root(place.state)
    journal = Journal(root.path, root.root_id)
    try:
        journal.rebuild()
        journal.verify()
    finally:
        journal.close()
