"""The journal: append-only, chained, owned by an epoch, and rebuilt from its own bytes."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from bottle_fsm.errors import ChainBrokenError, LockLostError, StoreError
from bottle_fsm.store import kinds, schema
from bottle_fsm.store.cache import Records
from bottle_fsm.store.draft import Draft
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import StateRoot

BOTTLE = "demo/one"


def raw(journal: Journal) -> sqlite3.Connection:
    """A connection without our guards, as an attacker with the file would have."""
    connection = sqlite3.connect(journal.path)
    connection.executescript("DROP TRIGGER event_no_update; DROP TRIGGER event_no_delete;")
    return connection


def declare(journal: Journal, bottle: str = BOTTLE) -> int:
    epoch = journal.take(bottle, command="test")
    evidence = {"spec": {}, "slug": "s", "backend": "fake", "manifest_path": "/m.yaml", "on_failure": "teardown"}
    journal.append(Draft(kinds.DECLARED, bottle, "L1", epoch, spec="d", dest="declared", evidence=evidence))
    return epoch


def test_begins_with_its_root(journal: Journal, root: StateRoot) -> None:
    first = next(journal.events())
    assert (first.sequence, first.kind, first.evidence["root"]) == (1, kinds.ROOT, root.root_id)
    assert first.prev == "0" * 64


def test_fills_in_every_field_of_an_event(journal: Journal) -> None:
    epoch = journal.take(BOTTLE, command="test")
    event = journal.append(
        Draft(kinds.OBSERVED, BOTTLE, "L", epoch, "m", "s", "t", "a", "b", 2, "why", (), {"k": 1}, "e", 0.5)
    )
    assert event.sequence == 3
    assert event.time.endswith("Z")
    assert len(event.time) == len("2026-01-01T00:00:00.000000Z")
    assert event.monotonic > 0
    assert event.boot
    assert event.run == journal.run
    assert set(event.actor) == {"uid", "user", "pid", "argv", "host"}
    assert (event.machine, event.spec, event.trigger, event.source, event.dest) == ("m", "s", "t", "a", "b")
    assert (event.attempt, event.cause, event.evidence, event.error, event.duration) == (2, "why", {"k": 1}, "e", 0.5)
    assert list(journal.events())[-1] == event


@pytest.mark.parametrize("statement", ["UPDATE event SET hash = ''", "DELETE FROM event"])
def test_forbids_changing_events(statement: str, journal: Journal) -> None:
    with sqlite3.connect(journal.path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_is_readable_by_its_owner_only(journal: Journal) -> None:
    declare(journal)
    for path in journal.path.parent.glob("journal.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_raises_the_epoch_with_each_lock(journal: Journal) -> None:
    assert [journal.take(BOTTLE, command="a") for _ in range(3)] == [1, 2, 3]
    assert journal.take("demo/other", command="a") == 1


def test_refuses_a_write_of_an_older_epoch(journal: Journal) -> None:
    ours = declare(journal)
    journal.take(BOTTLE, command="somebody else")
    before = list(journal.events())
    with pytest.raises(LockLostError, match=r"epoch 2, ours is 1"):
        journal.append(Draft(kinds.DONE, BOTTLE, "L1", ours, dest="validated"))
    with pytest.raises(LockLostError, match="another process owns"):
        journal.check_epoch(BOTTLE, ours)
    assert list(journal.events()) == before


def test_records_a_machine_once_per_version(journal: Journal) -> None:
    for version in ("a", "b", "a"):
        journal.ensure_machine(version, {"v": version})
    assert [e.machine for e in journal.events(kind=kinds.MACHINE)] == ["a", "b"]


def test_filters_by_bottle_launch_and_kind(journal: Journal) -> None:
    declare(journal)
    declare(journal, "demo/two")
    assert {e.bottle for e in journal.events(bottle=BOTTLE)} == {BOTTLE}
    assert [e.kind for e in journal.events(bottle=BOTTLE, launch="L1", kind=kinds.DECLARED)] == [kinds.DECLARED]
    assert list(journal.events(bottle="demo/none")) == []


def test_lists_only_bottles_that_were_declared(journal: Journal) -> None:
    journal.take("demo/locked-only", command="x")
    declare(journal)
    assert [r.bottle for r in journal.records()] == [BOTTLE]
    assert journal.record("demo/nobody") is None


def test_survives_being_opened_again(journal: Journal, root: StateRoot) -> None:
    declare(journal)
    journal.close()
    again = Journal(root.path, root.root_id)
    assert again.verify()[0] == 3
    assert [r.state for r in again.records()] == ["declared"]
    again.close()


def test_belongs_to_one_root(journal: Journal, root: StateRoot) -> None:
    with pytest.raises(StoreError, match="another state root"):
        Journal(root.path, "somebody-else")


def test_refuses_a_newer_schema(journal: Journal, root: StateRoot) -> None:
    with sqlite3.connect(journal.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=f"newer than {schema.VERSION}"):
        Journal(root.path, root.root_id)


def test_says_what_to_do_when_the_file_is_no_database(root: StateRoot) -> None:
    (root.path / "journal.sqlite3").write_bytes(b"not a database, not at all, for sure" * 100)
    with pytest.raises(StoreError, match=r"cannot open the journal.*nothing that was committed is lost"):
        Journal(root.path, root.root_id)


def test_rebuilds_its_caches_from_the_events(journal: Journal) -> None:
    declare(journal)
    expected = journal.records()
    with sqlite3.connect(journal.path) as connection:
        connection.execute("DELETE FROM bottle")
        connection.execute("DELETE FROM event_index")
    connection.close()
    journal.rebuild()
    assert journal.records() == expected
    assert [e.kind for e in journal.events(bottle=BOTTLE)] == [kinds.LOCK, kinds.DECLARED]
    journal.verify()


def test_reads_sub_steps_that_the_record_row_does_not_have(journal: Journal, root: StateRoot) -> None:
    declare(journal)
    journal.append(Draft(kinds.STEP_INTENT, BOTTLE, "L1", 1, evidence={"step": "make it", "role": "agent"}))
    with sqlite3.connect(journal.path) as connection:
        stored = json.loads(connection.execute("SELECT record FROM bottle").fetchone()[0])
    connection.close()
    assert stored["open_steps"] == []
    other = Journal(root.path, root.root_id)
    for reader in (journal, other):
        record = reader.record(BOTTLE)
        assert record is not None
        assert (record.open_steps, record.sequence) == (("make it",), 4)
    journal.append(Draft(kinds.STEP_DONE, BOTTLE, "L1", 1, evidence={"step": "make it", "role": "agent"}))
    again = other.record(BOTTLE)
    assert again is not None
    assert again.open_steps == ()
    other.verify()
    other.close()


def test_notices_a_cache_that_lies(journal: Journal) -> None:
    declare(journal)
    with sqlite3.connect(journal.path) as connection:
        text = connection.execute("SELECT record FROM bottle").fetchone()[0]
        lie = json.dumps({**json.loads(text), "state": "provisioned"})
        connection.execute("UPDATE bottle SET record = ?", (lie,))
    connection.close()
    with pytest.raises(StoreError, match="differs from the events"):
        journal.verify()


EDIT = "UPDATE event SET body = CAST(replace(CAST(body AS TEXT), 'L1', 'L2') AS BLOB) WHERE sequence = 3"
EMPTY = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # SHA-256 of {}
REHASHED = f"UPDATE event SET body = x'7b7d', hash = '{EMPTY}' WHERE sequence = 3"
SWAP = "".join(f"UPDATE event SET sequence = {new} WHERE sequence = {old};" for old, new in [(2, 99), (3, 2), (99, 3)])
DAMAGES = [
    ("an edited byte", EDIT, 3, "do not match their hash"),
    ("a removed event", "DELETE FROM event WHERE sequence = 2", 2, "is missing"),
    ("an edit with its hash made new", REHASHED, 3, "is not an event"),
    ("two events swapped", SWAP, 2, "does not follow"),
]


@pytest.mark.parametrize(("what", "damage", "sequence", "message"), DAMAGES, ids=[d[0] for d in DAMAGES])
def test_names_the_first_bad_event(what: str, damage: str, sequence: int, message: str, journal: Journal) -> None:
    declare(journal)
    with raw(journal) as connection:
        connection.executescript(damage)
    connection.close()
    with pytest.raises(ChainBrokenError, match=message) as caught:
        journal.verify()
    assert caught.value.sequence == sequence
    assert caught.value.exit_code == 2


def test_keeps_one_chain_when_many_threads_write(journal: Journal) -> None:
    def work(number: int) -> None:
        epoch = journal.take(f"demo/{number}", command="x")
        for _ in range(10):
            journal.append(Draft(kinds.OBSERVED, f"demo/{number}", epoch=epoch))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.verify()[0] == 1 + 6 * 11


def test_rolls_back_what_it_could_not_finish(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(journal)
    head = journal.verify()

    def broken(self: Records, record: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Records, "_write", broken)
    with pytest.raises(StoreError, match=r"cannot write the journal: disk I/O error"):
        journal.append(Draft(kinds.DONE, BOTTLE, "L1", 1, dest="validated"))
    monkeypatch.undo()
    assert journal.verify() == head


def test_reads_while_another_process_writes(journal: Journal, tmp_path: Path) -> None:
    declare(journal)
    writer = sqlite3.connect(journal.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert [e.sequence for e in journal.events()] == [1, 2, 3]
    assert journal.record(BOTTLE) is not None
    writer.execute("ROLLBACK")
    writer.close()
