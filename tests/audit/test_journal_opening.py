from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bottle_fsm.errors import StoreError
from bottle_fsm.store import schema
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root

OPEN = """
import sys
from pathlib import Path
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
root = open_root(Path(sys.argv[1]))
Journal(root.path, root.root_id).close()
"""


def test_opens_a_new_journal_in_several_processes_at_once(tmp_path: Path) -> None:
    for attempt in range(3):
        state = tmp_path / str(attempt)
        processes = [
            subprocess.Popen([sys.executable, "-c", OPEN, str(state)], stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        errors = [process.communicate()[1] for process in processes]
        assert errors == [""] * 4
        root = open_root(state)
        journal = Journal(root.path, root.root_id)
        assert [event.kind for event in journal.events()] == ["root"]
        journal.close()


def test_takes_a_step_of_the_schema_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = open_root(tmp_path)
    Journal(root.path, root.root_id).close()
    now = schema.VERSION
    twice = "CREATE TABLE more (x TEXT) STRICT; CREATE TABLE more (x TEXT) STRICT;"
    monkeypatch.setattr(schema, "VERSION", now + 1)
    monkeypatch.setitem(schema._MIGRATIONS, now + 1, twice)
    with pytest.raises(StoreError, match="table more already exists"):
        Journal(root.path, root.root_id)
    connection = sqlite3.connect(root.path / "journal.sqlite3")
    assert connection.execute("PRAGMA user_version").fetchone() == (now,)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall() == []
    connection.close()
