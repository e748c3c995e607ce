"""The journal: append-only events in SQLite, and the records folded from them.

Every append is one transaction that is on disk (WAL, synchronous=FULL) before the call returns. The owner's epoch is
compared inside that transaction: a process that lost its lock cannot write.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bottle_fsm.errors import LockLostError, StoreError
from bottle_fsm.failpoints import hit
from bottle_fsm.model import Event, Json, canonical
from bottle_fsm.store import chain, kinds, schema
from bottle_fsm.store.cache import Records
from bottle_fsm.store.draft import Draft, actor
from bottle_fsm.store.lock import boot_id
from bottle_fsm.store.record import BottleRecord, fold

DATABASE: Final = "journal.sqlite3"
_BUSY_SECONDS: Final = 30.0
_NOTHING: Final = BottleRecord("")
_FLAT: Final = frozenset({str, int, float, bool, type(None)})
"""Types that JSON gives back as they were."""


class Journal:
    """One state root's journal, opened by one process. Safe to use from several threads."""

    def __init__(self, directory: Path, root_id: str) -> None:
        """Open or make the database.

        Raises:
            StoreError: it cannot be opened, is damaged, was written by a newer version, or belongs to another root.
        """
        self.path = directory / DATABASE
        self.run = uuid.uuid4().hex[:12]
        self._boot = boot_id()
        self._actor = actor()
        self._lock = threading.RLock()
        with self._guarded("open"):
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            os.chmod(self.path, 0o600)  # noqa: PTH101 - before SQLite makes -wal and -shm, which inherit the mode
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            hit("journal.open")
            schema.migrate(self._connection)
            self._records = Records(self._connection)
            self._file = _identity(self.path)
        self._begin_root(root_id)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, draft: Draft) -> Event:
        """Commit one event and return it; it is on disk when this returns.

        Raises:
            LockLostError: the bottle's epoch is newer than the draft's; nothing was written.
            StoreError: the database cannot be written.
        """
        with self._transaction():
            return self._append(draft)

    def take(self, bottle: str, *, command: str) -> int:
        """Record that this process took the bottle's lock; return the new epoch. Call it while holding the lock."""
        with self._transaction():
            epoch = self._records.epoch(bottle) + 1
            record = self._records.get(bottle)
            launch = record.launch if record else ""
            self._append(Draft(kinds.LOCK, bottle, launch, epoch=epoch, cause=command))
            return epoch

    def ensure_machine(self, version: str, definition: Json) -> None:
        """Record a machine definition unless the journal has this version already."""
        with self._transaction():
            rows = self._connection.execute(  # a machine belongs to no bottle, and few events do
                "SELECT e.body FROM event_index i JOIN event e USING (sequence) WHERE i.bottle = '' AND i.kind = ?",
                (kinds.MACHINE,),
            )
            if not any(json.loads(body)["machine"] == version for (body,) in rows):
                self._append(Draft(kinds.MACHINE, machine=version, evidence={"definition": definition}))

    def check_epoch(self, bottle: str, epoch: int) -> None:
        """Make sure that this process still owns the bottle.

        Raises:
            LockLostError: it does not.
        """
        with self._lock, self._guarded("read"):
            self._check_file()
            current = self._records.epoch(bottle)
        if current != epoch:
            raise _lost(bottle, current, epoch)

    # -- reading -----------------------------------------------------------------------------------------------------

    def record(self, bottle: str) -> BottleRecord | None:
        """Return the folded record of a bottle; None when it never was declared or locked."""
        with self._lock, self._guarded("read"):
            return self._records.get(bottle)

    def records(self) -> list[BottleRecord]:
        """Return the records of all bottles that were ever declared, by name."""
        with self._lock, self._guarded("read"):
            return [record for record in self._records.all() if record.launch]

    def events(self, bottle: str = "", launch: str = "", kind: str = "") -> Iterator[Event]:
        """Yield events in order; each filter that is given must match."""
        wanted = [(f"i.{n} = ?", v) for n, v in (("bottle", bottle), ("launch", launch), ("kind", kind)) if v]
        query = "SELECT body, hash FROM event ORDER BY sequence"
        if wanted:
            where = " AND ".join(clause for clause, _ in wanted)
            query = f"SELECT e.body, e.hash FROM event_index i JOIN event e USING (sequence) WHERE {where} ORDER BY i.sequence"  # noqa: S608, E501 - fixed column names, bound values
        for body, stored in self._rows(query, tuple(value for _, value in wanted)):
            yield Event.from_body(json.loads(body), stored)

    def acted(self, bottle: str) -> set[tuple[str, int]]:
        """Return launch and epoch of every owner of a bottle that declared a launch or began a sub-step."""
        found = (e for kind in (kinds.DECLARED, kinds.STEP_INTENT) for e in self.events(bottle=bottle, kind=kind))
        return {(event.launch, event.epoch) for event in found}

    def verify(self) -> tuple[int, str]:
        """Check the whole chain and that the cached records equal the fold; return the count and the head's hash.

        Raises:
            ChainBrokenError: an event is not as it was written.
            StoreError: a cached record differs from what the events say (`rebuild` mends it).
        """
        rows = self._rows("SELECT sequence, body, hash FROM event ORDER BY sequence", ())
        with closing(rows):
            result = chain.check(rows)
        folded = fold(self.events())
        for record in self.records():
            if folded.get(record.bottle) != record:
                raise StoreError("the cached record differs from the events", place=record.bottle)
        return result

    def rebuild(self) -> None:
        """Write every cache again from the events."""
        with self._transaction():
            self._records.rebuild()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _append(self, draft: Draft) -> Event:
        sequence, prev = self._records.head()
        record = None
        if draft.bottle and draft.kind != kinds.LOCK:
            record = self._records.at_head(draft.bottle)
            current = record.epoch if record else 0
            if current != draft.epoch:
                raise _lost(draft.bottle, current, draft.epoch)
        inherited = record if draft.inherit and record else _NOTHING
        fields: Json = {
            "sequence": sequence + 1,
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "monotonic": round(time.monotonic(), 6),
            "boot": self._boot,
            "run": self.run,
            "epoch": draft.epoch,
            "actor": self._actor,
            "bottle": draft.bottle,
            "launch": draft.launch or inherited.launch,
            "machine": draft.machine or inherited.machine,
            "spec": draft.spec or inherited.spec,
            "kind": draft.kind,
            "trigger": draft.trigger,
            "source": draft.source,
            "dest": draft.dest,
            "attempt": draft.attempt,
            "cause": draft.cause,
            "resources": [r.to_json() for r in draft.resources],
            "evidence": draft.evidence,
            "error": draft.error,
            "duration": round(draft.duration, 6),
            "prev": prev,
        }
        body = canonical(fields)
        # What a reader would get: JSON has no tuples. Parsing the small parts again is cheaper than the whole.
        if not _FLAT.issuperset(map(type, draft.evidence.values())):
            fields["evidence"] = json.loads(canonical(draft.evidence))
        fields["resources"] = tuple(json.loads(canonical(fields["resources"]))) if draft.resources else ()
        event = Event(**fields, hash=chain.hash_body(body))
        self._connection.execute("INSERT INTO event VALUES (?, ?, ?)", (event.sequence, body, event.hash))
        self._records.add(event)
        return event

    def _begin_root(self, root_id: str) -> None:
        with self._transaction():
            first = self._connection.execute("SELECT body FROM event WHERE sequence = 1").fetchone()
            if first is None:
                self._append(Draft(kinds.ROOT, evidence={"root": root_id, "schema": schema.VERSION}))
            elif json.loads(first[0])["evidence"].get("root") != root_id:
                raise StoreError("this journal belongs to another state root", place=str(self.path))

    def _rows(self, query: str, values: tuple[Any, ...]) -> Generator[tuple[Any, ...], None, None]:
        """Read on a connection of its own, so that a long walk neither blocks nor is blocked by writers."""
        with self._guarded("read"), closing(self._reader()) as reader:
            yield from reader.execute(query, values)

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, check_same_thread=False)

    def _check_file(self) -> None:
        """Make sure that the database is still the one at its place: a restored one has other owners."""
        if _identity(self.path) != self._file:
            raise LockLostError(
                "another journal was put in the place of the one that this process writes",
                place=str(self.path),
                hint="The state directory was restored or moved; run the command again.",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._guarded("write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._check_file()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._records.forget()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _guarded(self, verb: str) -> _Guarded:
        return _Guarded(verb, self.path)


class _Guarded:
    """Turns SQLite's errors into ours. A class, not a generator: every commit passes several, and it costs a third."""

    __slots__ = ("_path", "_verb")

    def __init__(self, verb: str, path: Path) -> None:
        self._verb = verb
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            hint = "Check free space and permissions; nothing that was committed is lost."
            raise StoreError(f"cannot {self._verb} the journal: {error}", place=str(self._path), hint=hint) from error


def _lost(bottle: str, current: int, ours: int) -> LockLostError:
    return LockLostError(
        f"another process owns this bottle by now (epoch {current}, ours is {ours})",
        place=bottle,
        hint="Nothing was written; look at `bottle-fsm status` and try again.",
    )


def _identity(path: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino
