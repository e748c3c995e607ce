"""Records: what the events of each bottle add up to, kept in memory and in a table, never trusted beyond the events.

A record's row may be older than the newest events of its bottle: sub-steps, the most frequent events, do not write it.
Reading adds what came after, so that a durable sub-step costs no more than its own event.
Its duty: the tables `event_index` and `bottle`. Not its duty: transactions, threads and errors; the journal has them.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from bottle_fsm.model import Event
from bottle_fsm.store import chain, kinds
from bottle_fsm.store.record import BottleRecord, advance

_LEAVES_ROW: Final = frozenset({kinds.STEP_INTENT, kinds.STEP_DONE, kinds.STEP_SKIPPED})


class Records:
    """The records of one database, through one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, BottleRecord] = {}
        self._current: set[str] = set()
        self._head: tuple[int, str] = (0, "")

    def head(self) -> tuple[int, str]:
        """Return sequence and hash of the newest event, whoever wrote it."""
        query = "SELECT sequence, hash FROM event ORDER BY sequence DESC LIMIT 1"
        row = self._connection.execute(query).fetchone()
        head = (row[0], row[1]) if row else (0, chain.GENESIS)
        if head != self._head:
            self._head = head
            self._current.clear()
        return head

    def get(self, bottle: str) -> BottleRecord | None:
        """Return a bottle's record as of its newest event; None when it has none."""
        self.head()
        return self.at_head(bottle)

    def at_head(self, bottle: str) -> BottleRecord | None:
        """Return what `get` does, right after `head`: nobody can have written in between, for a transaction is open."""
        known = self._known.get(bottle)
        if bottle in self._current:
            return known
        if known is None or known.sequence != self._newest(bottle):
            known = self._read(bottle)
            if known is None:
                return None
            self._known[bottle] = known
        self._current.add(bottle)
        return known

    def all(self) -> list[BottleRecord]:
        """Return all records, by name."""
        rows = self._connection.execute("SELECT bottle FROM bottle ORDER BY bottle").fetchall()
        return [record for (bottle,) in rows if (record := self._read(bottle)) is not None]

    def epoch(self, bottle: str) -> int:
        """Return the newest epoch of a bottle, 0 when it was never locked."""
        record = self.get(bottle)
        return record.epoch if record else 0

    def add(self, event: Event) -> None:
        """Take in the event that was appended in the open transaction, right after `head` returned the one before."""
        self._index(event)
        self._head = (event.sequence, event.hash)
        if not event.bottle:
            return
        known = self._known.get(event.bottle) if event.bottle in self._current else self._read(event.bottle)
        if known is None or known.sequence != event.sequence:
            known = advance(known, event)
        self._known[event.bottle] = known
        self._current.add(event.bottle)
        if event.kind not in _LEAVES_ROW:
            self._write(known)

    def forget(self) -> None:
        """Drop what is in memory: the open transaction was rolled back."""
        self._known.clear()
        self._current.clear()
        self._head = (0, "")

    def rebuild(self) -> None:
        """Write both tables again from the events."""
        self.forget()
        self._connection.execute("DELETE FROM bottle")
        self._connection.execute("DELETE FROM event_index")
        records: dict[str, BottleRecord] = {}
        for body, stored in self._connection.execute("SELECT body, hash FROM event ORDER BY sequence").fetchall():
            event = Event.from_body(json.loads(body), stored)
            self._index(event)
            if event.bottle:
                records[event.bottle] = advance(records.get(event.bottle), event)
        for record in records.values():
            self._write(record)

    def _newest(self, bottle: str) -> int:
        query = "SELECT max(sequence) FROM event_index WHERE bottle = ?"
        return int(self._connection.execute(query, (bottle,)).fetchone()[0] or 0)

    def _read(self, bottle: str) -> BottleRecord | None:
        row = self._connection.execute("SELECT record FROM bottle WHERE bottle = ?", (bottle,)).fetchone()
        record = BottleRecord.from_json(json.loads(row[0])) if row else None
        later = self._connection.execute(
            "SELECT e.body, e.hash FROM event_index i JOIN event e USING (sequence)"
            " WHERE i.bottle = ? AND i.sequence > ? ORDER BY i.sequence",
            (bottle, record.sequence if record else 0),
        )
        for body, stored in later:
            record = advance(record, Event.from_body(json.loads(body), stored))
        return record

    def _index(self, event: Event) -> None:
        self._connection.execute(
            "INSERT INTO event_index VALUES (?, ?, ?, ?, ?)",
            (event.bottle, event.sequence, event.launch, event.kind, event.time),
        )

    def _write(self, record: BottleRecord) -> None:
        self._connection.execute(
            "INSERT INTO bottle VALUES (?, ?, ?) ON CONFLICT (bottle) DO UPDATE"
            " SET epoch = excluded.epoch, record = excluded.record",
            (record.bottle, record.epoch, json.dumps(record.to_json())),
        )
