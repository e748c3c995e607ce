from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.audit.export import from_lines, to_lines
from bottle_fsm.audit.query import KINDS
from bottle_fsm.cli.verbs.audit import line_of
from bottle_fsm.errors import ChainBrokenError
from bottle_fsm.model import Event
from bottle_fsm.store.raw import raw_rows
from cli_shell import Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.run("apply", found.manifest)
    return found


def tamper(shell: Shell, statement: str) -> None:
    """Change the database as somebody would who can write the file."""
    connection = sqlite3.connect(shell.state / "journal.sqlite3")
    connection.execute("DROP TRIGGER event_no_update")
    connection.execute("DROP TRIGGER event_no_delete")
    connection.execute(statement)
    connection.commit()
    connection.close()


# -- show --------------------------------------------------------------------------------------------------------------


def test_shows_all_events_in_order(shell: Shell) -> None:
    lines = shell.run("audit").out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert shell.run("audit", "show").out.splitlines() == lines


def test_filters_by_bottle_launch_and_kind(shell: Shell) -> None:
    launches = {o["bottle"]: o["launch"] for o in shell.run("status", "--json").objects}
    _, *events, last = shell.run("audit", "implementer", "--kind", "done", "--json").objects
    assert {e["bottle"] for e in events} == {"demo/implementer"}
    assert [e["dest"] for e in events][-1] == "provisioned"
    assert last == {"type": "outcome", "outcome": "ok", "exit_code": 0, "events": len(events)}
    _, *events, last = shell.run("audit", "--launch", launches["demo/reviewer"][:6], "--json").objects
    assert {e["launch"] for e in events} == {launches["demo/reviewer"]}
    assert shell.run("audit", "--launch", "nope").out == ""


def test_names_the_nearest_bottle_to_one_that_is_not_there(shell: Shell) -> None:
    ended = shell.run("audit", "reviewr")
    assert ended.code == 1
    assert "Did you mean demo/reviewer?" in ended.err


def test_knows_every_kind_of_event(shell: Shell) -> None:
    shown = {line.split()[2] for line in shell.run("audit", "--kind", "root").out.splitlines()}
    assert shown == {"root"}
    assert set(KINDS) >= {"root", "machine", "lock", "declared", "intent", "done", "failed", "kept", "undo_done"}


def test_shows_an_empty_journal_and_makes_none(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for words in (["audit"], ["audit", "export"]):
        assert (shell.run(*words).code, shell.run(*words).out) == (0, "")
    assert shell.run("audit", "verify").out == f"the chain holds: 0 events, head {'0' * 64}\n"
    assert not shell.state.exists()


def test_spells_out_what_an_event_carries() -> None:
    body = dict.fromkeys(("time", "boot", "run", "bottle", "launch", "machine", "spec", "kind", "trigger"), "")
    numbers = {"sequence": 7, "monotonic": 0.0, "epoch": 1, "attempt": 1, "duration": 0.25}
    texts = {"source": "a", "dest": "b", "cause": "it said\n\x1b[2J", "error": "", "prev": ""}
    event = Event.from_body(
        {**body, **numbers, **texts, "actor": {}, "evidence": {"step": "x\r"}, "resources": []}, "h"
    )
    assert line_of(event) == "     7    a→b  x\\r  it said\\n\\x1b[2J  0.250s"


# -- verify ------------------------------------------------------------------------------------------------------------


def test_finds_an_unbroken_chain(shell: Shell) -> None:
    rows = list(raw_rows(shell.state))
    ended = shell.run("audit", "verify")
    assert ended.code == 0
    assert ended.out == f"the chain holds: {len(rows)} events, head {rows[-1][2]}\n"
    last = shell.run("audit", "verify", "--json").objects[-1]
    assert (last["outcome"], last["events"], last["head"]) == ("ok", len(rows), rows[-1][2])


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE event SET body = replace(body, 'demo', 'dema') WHERE sequence = 12", 12),
        ("UPDATE event SET body = 'x' WHERE sequence = 1", 1),
        ("UPDATE event SET body = CAST('nonsense' AS BLOB) WHERE sequence = 5", 5),
        ("DELETE FROM event WHERE sequence = 9", 9),
        ("UPDATE event SET hash = (SELECT hash FROM event WHERE sequence = 3) WHERE sequence = 4", 4),
        ("UPDATE event SET sequence = 100000 WHERE sequence = 2", 2),
    ],
)
def test_names_the_first_event_that_is_not_as_it_was_written(shell: Shell, statement: str, first: int) -> None:
    if "body = 'x'" in statement:
        statement = "UPDATE event SET body = CAST('{}' AS BLOB) WHERE sequence = 1"
    if "replace(" in statement:
        statement = (
            "UPDATE event SET body = CAST(replace(CAST(body AS TEXT), 'demo', 'dema') AS BLOB) WHERE sequence = 12"
        )
    tamper(shell, statement)
    ended = shell.run("audit", "verify")
    assert ended.code == 2
    assert ended.err.startswith(f"error: event {first}: ")
    last = shell.run("audit", "verify", "--json").objects[-1]
    assert (last["outcome"], last["exit_code"]) == ("chain_broken", 2)


def test_notices_a_record_that_does_not_follow_from_the_events(shell: Shell) -> None:
    connection = sqlite3.connect(shell.state / "journal.sqlite3")
    connection.execute("UPDATE bottle SET record = replace(record, '\"ready\"', '\"failed\"')")
    connection.commit()
    connection.close()
    ended = shell.run("audit", "verify")
    assert ended.code == 1
    assert "the cached record differs from the events" in ended.err


def test_says_that_a_journal_cannot_be_read(shell: Shell) -> None:
    for path in shell.state.glob("journal.sqlite3*"):
        path.unlink()
    (shell.state / "journal.sqlite3").write_bytes(b"no database, but longer than a header of one" * 10)
    ended = shell.run("audit", "verify")
    assert ended.code == 1
    assert "cannot read the journal" in ended.err


def test_needs_a_root_that_can_be_read(shell: Shell) -> None:
    (shell.state / "root.json").write_text("{")
    ended = shell.run("audit")
    assert ended.code == 1
    assert "root.json: the state directory's identity cannot be read" in ended.err


# -- export ------------------------------------------------------------------------------------------------------------


def test_exports_lines_that_can_be_checked_elsewhere(shell: Shell, tmp_path: Path) -> None:
    ended = shell.run("audit", "export", "--format", "jsonl")
    lines = ended.out.splitlines()
    head = "0" * 64
    for number, line in enumerate(lines, start=1):
        value = json.loads(line)
        raw = line.partition('"body":')[2][:-1].encode()
        assert hashlib.sha256(raw).hexdigest() == value["hash"]
        assert (value["sequence"], value["body"]["prev"]) == (number, head)
        head = value["hash"]
    file = tmp_path / "export.jsonl"
    file.write_text(ended.out)
    assert shell.run("audit", "verify", file).out == shell.run("audit", "verify").out


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        (lambda lines: [*lines[:4], lines[4].replace("demo", "dema"), *lines[5:]], 5),
        (lambda lines: [*lines[:6], *lines[7:]], 7),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines, "{}"], None),
        (lambda lines: ["\ufeff" + lines[0], *lines[1:]], 1),
    ],
)
def test_finds_the_first_bad_line_of_an_export(shell: Shell, tmp_path: Path, spoil: object, first: int | None) -> None:
    assert callable(spoil)
    lines = shell.run("audit", "export").out.splitlines()
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(spoil(lines)) + "\n")
    ended = shell.run("audit", "verify", file)
    assert ended.code == 2
    assert ended.err.startswith(f"error: event {first or len(lines) + 1}: ")


def test_says_that_an_export_cannot_be_read(shell: Shell, tmp_path: Path) -> None:
    ended = shell.run("audit", "verify", tmp_path / "nothing")
    assert (ended.code, ended.err) == (
        1,
        f"error: {tmp_path / 'nothing'}: cannot be read: No such file or directory.\n",
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 10**17), st.binary(max_size=50), st.text("0123456789abcdef", min_size=64, max_size=64))
    )
)
def test_reads_back_the_very_bytes(rows: list[tuple[int, bytes, str]]) -> None:
    bodies = [(number, b'{"x":' + json.dumps(body.hex()).encode() + b"}", stored) for number, body, stored in rows]
    assert list(from_lines(to_lines(bodies))) == bodies


@given(st.binary(max_size=200))
def test_takes_no_other_line_for_an_event(data: bytes) -> None:
    with pytest.raises(ChainBrokenError):
        list(from_lines([data]))
