"""The database's tables and their migrations. Event bytes are never rewritten; everything else is a cache."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from bottle_fsm.errors import StoreError

VERSION: Final = 2

_MIGRATIONS: Final[dict[int, str]] = {
    1: """
    CREATE TABLE event (
        sequence INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        hash TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER event_no_update BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'the event table is append-only'); END;
    CREATE TRIGGER event_no_delete BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'the event table is append-only'); END;
    CREATE TABLE event_index (
        sequence INTEGER PRIMARY KEY,
        bottle TEXT NOT NULL,
        launch TEXT NOT NULL,
        kind TEXT NOT NULL,
        time TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_index_bottle ON event_index (bottle, sequence);
    CREATE INDEX event_index_launch ON event_index (launch, sequence);
    CREATE INDEX event_index_kind ON event_index (kind, sequence);
    CREATE INDEX event_index_time ON event_index (time);
    CREATE TABLE bottle (
        bottle TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    """,
    # Each tree is one more page in every commit. Whoever filters by launch, kind or time reads this narrow table whole.
    2: """
    ALTER TABLE event_index RENAME TO event_index_1;
    CREATE TABLE event_index (
        bottle TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        launch TEXT NOT NULL,
        kind TEXT NOT NULL,
        time TEXT NOT NULL,
        PRIMARY KEY (bottle, sequence)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO event_index SELECT bottle, sequence, launch, kind, time FROM event_index_1;
    DROP TABLE event_index_1;
    """,
}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to `VERSION`, one numbered step after another, each in its own transaction.

    Raises:
        StoreError: the database was written by a newer version; nothing was changed.
    """
    current = _version(connection)
    if current > VERSION:
        raise StoreError(
            f"the journal has schema {current}, which is newer than {VERSION}, the newest that this version knows",
            place=str(connection.execute("PRAGMA database_list").fetchone()[2]),
            hint="Use the bottle-fsm that wrote it, or a newer one. Nothing was changed.",
        )
    for version in range(current + 1, VERSION + 1):
        _step(connection, version)


def _step(connection: sqlite3.Connection, version: int) -> None:
    """Take one step, unless another process took it while we waited for the write lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) < version:
            for statement in _statements(_MIGRATIONS[version]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: `executescript` would commit before it begins."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if statement.strip(" ;\n") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
