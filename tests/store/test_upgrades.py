"""Journals of earlier schemas open, unchanged in every event byte; those of later ones are refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.errors import StoreError
from bottle_fsm.store import schema
from bottle_fsm.store.journal import DATABASE, Journal
from bottle_fsm.store.record import fold

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = sorted(int(path.stem.removeprefix("schema")) for path in GOLDEN.glob("schema*.sqlite3"))
Rows = list[tuple[Any, ...]]


def events_of(path: Path) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT sequence, body, hash FROM event ORDER BY sequence").fetchall()


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def golden(number: int, place: Path) -> tuple[Path, dict[str, Any]]:
    """Copy a golden journal to where it can be opened; return its path and what it holds."""
    shutil.copy(GOLDEN / f"schema{number}.sqlite3", place / DATABASE)
    return place / DATABASE, json.loads((GOLDEN / f"schema{number}.json").read_text())


def test_has_a_golden_journal_of_every_schema() -> None:
    assert list(range(1, schema.VERSION + 1)) == SCHEMAS


@pytest.mark.parametrize("number", SCHEMAS)
def test_opens_and_migrates_what_an_earlier_version_wrote(number: int, tmp_path: Path) -> None:
    path, expected = golden(number, tmp_path)
    assert version_of(path) == number
    before = events_of(path)
    journal = Journal(tmp_path, expected["root"])
    assert journal.verify()[0] == len(before) > 80
    found = {record.bottle: record for record in journal.records()}
    assert fold(journal.events()) == found
    for record in expected["records"]:
        today = json.loads(json.dumps(found[record["bottle"]].to_json()))
        assert record.items() <= today.items(), "later versions may add fields, and change none"
    assert {r.bottle: r.outcome for r in found.values()} == {
        "golden/gone": "torn_down",
        "golden/kept": "failed",
        "golden/ready": "ready",
    }
    journal.take("golden/ready", command="test")
    journal.close()
    assert version_of(path) == schema.VERSION
    assert events_of(path)[:-1] == before, "not one byte of an event was rewritten"


def test_takes_one_numbered_step_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two schemas of the future: a cache gets a column, then an index; then the caches are made anew."""
    path, expected = golden(1, tmp_path)
    before = events_of(path)
    next_one = schema.VERSION + 1
    steps = {
        next_one: "ALTER TABLE bottle ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';",
        next_one + 1: "CREATE INDEX bottle_colour ON bottle (colour); UPDATE bottle SET colour = 'red; or green';",
    }
    monkeypatch.setattr(schema, "VERSION", next_one + 1)
    monkeypatch.setattr(schema, "_MIGRATIONS", {**schema._MIGRATIONS, **steps})
    journal = Journal(tmp_path, expected["root"])
    assert version_of(path) == next_one + 1
    assert journal.verify()[0] == len(before)
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert {c for (c,) in connection.execute("SELECT colour FROM bottle")} == {"red; or green"}
    assert events_of(path) == before


def test_keeps_the_last_whole_step_when_one_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = golden(1, tmp_path)
    before = events_of(path)
    next_one = schema.VERSION + 1
    steps = {
        next_one: "CREATE TABLE extra (a TEXT);",
        next_one + 1: "CREATE TABLE more (a TEXT); CREATE TABLE more (a TEXT);",
    }
    with monkeypatch.context() as then:
        then.setattr(schema, "VERSION", next_one + 1)
        then.setattr(schema, "_MIGRATIONS", {**schema._MIGRATIONS, **steps})
        with pytest.raises(StoreError, match="table more already exists"):
            Journal(tmp_path, expected["root"])
    assert version_of(path) == next_one
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall() == []
    assert events_of(path) == before


def test_cannot_rewrite_an_event_in_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = golden(1, tmp_path)
    before = events_of(path)
    next_one = schema.VERSION + 1
    monkeypatch.setattr(schema, "VERSION", next_one)
    monkeypatch.setattr(schema, "_MIGRATIONS", {**schema._MIGRATIONS, next_one: "UPDATE event SET hash = 'x';"})
    with pytest.raises(StoreError, match="append-only"):
        Journal(tmp_path, expected["root"])
    assert events_of(path) == before


def test_says_what_to_do_about_a_newer_schema_and_changes_nothing(tmp_path: Path) -> None:
    path, expected = golden(1, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = events_of(path)
    with pytest.raises(StoreError, match=f"has schema {schema.VERSION + 1}, which is newer") as caught:
        Journal(tmp_path, expected["root"])
    assert caught.value.place == str(path)
    assert caught.value.hint == "Use the bottle-fsm that wrote it, or a newer one. Nothing was changed."
    assert (version_of(path), events_of(path)) == (schema.VERSION + 1, before)


def test_is_made_by_a_script_that_still_works(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(GOLDEN / "make_golden.py"), str(tmp_path)], check=True, timeout=120)
    made = json.loads((tmp_path / f"schema{schema.VERSION}.json").read_text())
    kept = json.loads((GOLDEN / f"schema{schema.VERSION}.json").read_text())
    assert [r["outcome"] for r in made["records"]] == [r["outcome"] for r in kept["records"]]
    text = (tmp_path / f"schema{schema.VERSION}.sqlite3").read_bytes()
    assert b"append-only" in text
