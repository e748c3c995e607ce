from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.cli.reading import reading
from bottle_fsm.doctor.rows import GIB, Level, Row
from bottle_fsm.doctor.state import (
    FULL,
    NETWORK_FILE_SYSTEMS,
    ClockFacts,
    DirectoryFacts,
    JournalFacts,
    StaleFacts,
    clock_rows,
    directory_rows,
    file_system,
    journal_rows,
    stale_rows,
)
from bottle_fsm.doctor.state_look import look_at_clocks, look_at_directory, look_at_journal
from bottle_fsm.store import root as store_root
from bottle_fsm.store.lock import boot_id
from bottle_fsm.store.root import open_root
from cli_shell import Shell

GOOD = DirectoryFacts(path="/s", parent="/s", kind="ext4", free=GIB, made_here=True, root_id="r")
NOW = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
CLOCK = ClockFacts(NOW, boot="b", monotonic=100.0)


def levels(rows: list[Row]) -> dict[str, Level]:
    return {row.name: row.level for row in rows}


def test_finds_nothing_wrong_with_a_good_directory() -> None:
    rows = list(directory_rows(GOOD))
    assert levels(rows) == {"directory": Level.OK, "disk": Level.OK}
    assert rows[0].found == "/s, mode 0700, on ext4"


def test_finds_nothing_wrong_with_one_that_can_be_made() -> None:
    first, _ = directory_rows(replace(GOOD, exists=False, made_here=None))
    assert (first.level, first.found) == (Level.OK, "/s will be made at the first launch")


@pytest.mark.parametrize(
    ("facts", "name", "found", "remedy"),
    [
        (replace(GOOD, kind="nfs4"), "directory", "network file system (nfs4)", "--state-dir"),
        (replace(GOOD, exists=False, directory=False), "directory", "is no directory", "--state-dir"),
        (replace(GOOD, owner=5, uid=6), "directory", "belongs to uid 5, you are uid 6", "Run it as that user"),
        (replace(GOOD, writable=False), "directory", "cannot be written", "chmod u+rwx /s"),
        (
            replace(GOOD, exists=False, writable=False),
            "directory",
            "is not there, and /s cannot be written",
            "--state-",
        ),
        (replace(GOOD, made_here=False), "identity", "made on another machine", "fresh --state-dir"),
        (replace(GOOD, problem="root.json is damaged"), "identity", "root.json is damaged", "from a backup"),
        (replace(GOOD, free=FULL - 1), "disk", "0.0 GiB free", "Free some"),
    ],
)
def test_fails_a_directory_that_cannot_be_used(facts: DirectoryFacts, name: str, found: str, remedy: str) -> None:
    (row,) = (r for r in directory_rows(facts) if r.name == name)
    assert row.level is Level.FAILED
    assert found in row.found
    assert remedy in row.remedy


@pytest.mark.parametrize(
    ("facts", "name", "remedy"),
    [
        (replace(GOOD, mode=0o755), "directory", "chmod 700 /s"),
        (replace(GOOD, free=GIB - 1), "disk", "workspaces of local bottles"),
        (replace(GOOD, free=None), "disk", "df -h /s"),
    ],
)
def test_warns_of_a_directory_that_is_not_as_it_should_be(facts: DirectoryFacts, name: str, remedy: str) -> None:
    (row,) = (r for r in directory_rows(facts) if r.name == name)
    assert row.level is Level.WARNING
    assert remedy in row.remedy


def test_knows_the_same_network_file_systems_as_the_store() -> None:
    assert NETWORK_FILE_SYSTEMS == store_root._NETWORK_FILE_SYSTEMS


def test_counts_the_bottles_of_a_journal() -> None:
    (row,) = journal_rows(JournalFacts(exists=True, bottles=9, live=tuple("abcdefg")))
    assert row.found == "opens; 9 bottles, 7 not torn down: a; b; c; d; e; and 2 more"
    (row,) = journal_rows(JournalFacts(exists=True, bottles=1))
    assert row.found == "opens; 1 bottle, 0 not torn down"
    (row,) = journal_rows(JournalFacts())
    assert (row.level, row.found) == (Level.OK, "none yet: nothing was launched from here")


def test_tells_a_busy_journal_from_a_damaged_one() -> None:
    (row,) = journal_rows(JournalFacts(exists=True, problem="no answer within 5 s", late=True))
    assert row.level is Level.WARNING
    assert "run this again" in row.remedy
    (row,) = journal_rows(JournalFacts(exists=True, problem="file is not a database", hint="Check free space."))
    assert row.level is Level.FAILED
    assert row.remedy.startswith("Check free space; if it is damaged, restore the state directory from a backup, or ")
    (row,) = journal_rows(JournalFacts(exists=True, problem="damaged"))
    assert "from a backup" in row.remedy


def clock(facts: ClockFacts, journal: JournalFacts) -> Row:
    return next(row for row in clock_rows(facts, journal) if row.name == "clock")


def test_trusts_a_clock_that_nothing_contradicts() -> None:
    journal = JournalFacts(True, newest="2031-05-04T03:02:03.000000Z", boot="b", monotonic=104.0)
    row = clock(CLOCK, journal)
    assert (row.level, row.found) == (Level.OK, "2031-05-04 03:02:01 UTC")


@pytest.mark.parametrize(
    ("facts", "journal", "found"),
    [
        (replace(CLOCK, now=NOW.replace(year=1970)), JournalFacts(), "is long past"),
        (CLOCK, JournalFacts(newest="2031-05-04T03:02:07Z"), "newest event is of 2031-05-04 03:02:07: it was set back"),
        (CLOCK, JournalFacts(boot="b", monotonic=106.0), "shows 100 s, an event of this boot 106 s"),
    ],
)
def test_warns_of_a_clock_that_cannot_be_right(facts: ClockFacts, journal: JournalFacts, found: str) -> None:
    row = clock(facts, journal)
    assert row.level is Level.WARNING
    assert found in row.found


def test_does_not_compare_clocks_of_two_boots() -> None:
    assert clock(CLOCK, JournalFacts(boot="c", monotonic=1e6)).level is Level.OK


def test_warns_when_the_boot_cannot_be_told() -> None:
    _, row = clock_rows(replace(CLOCK, boot=""), JournalFacts(boot="", monotonic=1e6))
    assert row.level is Level.WARNING
    assert "/proc/sys/kernel/random/boot_id" in row.remedy


@given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=40) | st.datetimes().map(str), st.floats(0, 1e9))
def test_takes_any_clock_and_any_recorded_time(now: datetime, newest: str, monotonic: float) -> None:
    for row in clock_rows(ClockFacts(now, "b", 5.0), JournalFacts(True, newest=newest, boot="b", monotonic=monotonic)):
        assert bool(row.remedy) == (row.level is not Level.OK)


def test_lists_what_no_live_bottle_has() -> None:
    (row,) = stale_rows(StaleFacts())
    assert (row.level, row.found) == (Level.OK, "none")
    (row,) = stale_rows(StaleFacts(unseen=("today's docker engine was not looked at",)))
    assert (row.level, row.found) == (Level.OK, "none; today's docker engine was not looked at")
    (row,) = stale_rows(StaleFacts(strays=("demo/a container x (its launch l was torn down)",)))
    assert (row.level, row.found) == (
        Level.WARNING,
        "1 object of no live bottle: demo/a container x (its launch l was torn down)",
    )
    assert row.remedy.startswith("`bottle-fsm gc`")


def test_leaves_to_a_person_what_is_newer_than_the_journal() -> None:
    first, second = stale_rows(StaleFacts(strays=("a",), undecided=("b",)))
    assert "newer than the journal: b" in first.found
    assert "Use the newer state directory" in first.remedy
    assert second.found == "1 object of no live bottle: a"


def test_says_when_leftovers_could_not_be_looked_for() -> None:
    (row,) = stale_rows(StaleFacts(problem="no answer within 5 s"))
    assert (row.level, row.found) == (Level.WARNING, "could not be looked for: no answer within 5 s")
    first, second = stale_rows(StaleFacts(unreachable=("engine x is away",)))
    assert (first.name, first.level, first.found) == ("recorded engine", Level.WARNING, "engine x is away")
    assert second.level is Level.OK


MOUNTS = "a / ext4 rw 0 0\nb /s nfs4 rw 0 0\nc /s/in\\040side\\134x xfs rw 0 0\nd /s tmpfs rw 0 0\nbroken\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/so", "ext4"), ("/s", "tmpfs"), ("/s/deep", "tmpfs"), ("/s/in side\\x/f", "xfs")],
)
def test_finds_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind
    assert file_system(path, "") == ""


def test_finds_the_same_file_system_as_the_store(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/"), Path("/dev/shm"), Path("/proc")):
        found = file_system(str(path.resolve()), Path("/proc/self/mounts").read_text())
        assert found == store_root._file_system(path) != ""


def test_looks_at_a_directory_that_the_store_made(tmp_path: Path) -> None:
    root = open_root(tmp_path / "state")
    facts = look_at_directory(root.path)
    assert (facts.exists, facts.directory, facts.writable, facts.mode) == (True, True, True, 0o700)
    assert (facts.made_here, facts.root_id, facts.problem) == (True, root.root_id, "")
    assert facts.free


def test_notices_a_directory_of_another_machine(tmp_path: Path) -> None:
    open_root(tmp_path / "state", machine_id="another")
    assert look_at_directory(tmp_path / "state").made_here is False


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00", '"x"', '{"root": 1}'])
def test_notices_a_damaged_identity(tmp_path: Path, content: str) -> None:
    (tmp_path / "root.json").write_text(content)
    assert look_at_directory(tmp_path).problem == f"{tmp_path / 'root.json'} is damaged"


def test_notices_an_identity_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "root.json").mkdir()
    assert look_at_directory(tmp_path).problem == f"{tmp_path / 'root.json'} is a directory"


def test_looks_at_a_directory_that_is_not_there_without_making_it(tmp_path: Path) -> None:
    facts = look_at_directory(tmp_path / "a" / "b")
    assert (facts.exists, facts.directory, facts.writable, facts.parent) == (False, True, True, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_notices_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        facts = look_at_directory(path)
        assert (facts.directory, facts.writable) == (False, False)


def test_notices_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "state"
    link.symlink_to(tmp_path / "gone")
    found, disk = directory_rows(look_at_directory(link))
    assert (found.level, found.found) == (Level.FAILED, f"{link} is no directory")
    assert disk.remedy == f"`df -h {link}`"


def test_reads_the_newest_event_of_a_journal(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    before = look_at_clocks()
    shell.apply()
    shell.run("apply", shell.manifest, "reviewer")
    shell.run("destroy", "reviewer", "--yes")
    facts = look_at_journal(shell.state, reading)
    after = look_at_clocks()
    assert (facts.problem, facts.bottles, facts.live) == ("", 2, ("demo/implementer",))
    assert before.now - timedelta(seconds=1) <= datetime.fromisoformat(facts.newest) <= after.now
    assert before.monotonic <= facts.monotonic <= after.monotonic
    assert facts.boot == after.boot == boot_id()
