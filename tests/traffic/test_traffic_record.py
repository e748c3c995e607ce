"""Every line once, in order: whoever is killed, whatever is thrown away, however many collect at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottle_fsm.errors import BackendError
from bottle_fsm.traffic import record
from bottle_fsm.traffic.cursor import counts_of, load
from bottle_fsm.traffic.record import opened
from traffic.traffic_bench import LAUNCH, MEMORY, Logs, collect_now, decision, paths, recorded, startup

ROLES = ("interceptor", "guard")
HERE = Path(__file__).parent
LAST_STEP = 9
"""Calls to the system of one collection of two short logs, and the moments before and after them."""


def numbers(state: Path, role: str) -> list[int | str]:
    """Return what stands in the record of a role: numbers of lines, and `gap`."""
    mine = [line for line in recorded(state) if line["source"] == role]
    return ["gap" if line["event"] == "gap" else line["bytes"] for line in mine]


def write(logs: Logs, role: str, first: int, count: int) -> None:
    logs.logs.setdefault(role, [startup()]).extend(decision(n) for n in range(first, first + count))


def test_keeps_each_line_once_however_often_it_is_collected(tmp_path: Path) -> None:
    logs = Logs()
    for round_ in range(4):
        write(logs, "interceptor", round_ * 3, 3)
        collect_now(tmp_path, logs)
        collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == list(range(12))


def test_makes_nothing_where_no_sidecar_ever_wrote_anything(tmp_path: Path) -> None:
    assert collect_now(tmp_path, Logs())
    assert list(tmp_path.iterdir()) == []


def test_is_readable_for_its_owner_alone(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "guard", 0, 1)
    before = os.umask(0)
    try:
        collect_now(tmp_path, logs)
    finally:
        os.umask(before)
    at = paths(tmp_path)
    assert [oct(p.stat().st_mode & 0o777) for p in (at.folder.parent, at.folder)] == ["0o700", "0o700"]
    assert {oct(p.stat().st_mode & 0o777) for p in at.folder.iterdir()} == {"0o600"}
    assert sorted(p.name for p in at.folder.iterdir()) == [f"{LAUNCH.launch}.json", f"{LAUNCH.launch}.jsonl"]


def test_puts_the_lines_of_both_in_the_order_of_their_times(tmp_path: Path) -> None:
    logs = Logs()
    logs.logs = {"guard": [startup(), decision(2), decision(5)], "interceptor": [startup(), decision(1), decision(5)]}
    collect_now(tmp_path, logs)
    assert [(x["source"], x["bytes"]) for x in recorded(tmp_path)] == [
        ("interceptor", 1), ("guard", 2), ("interceptor", 5), ("guard", 5),
    ]  # fmt: skip


def test_keeps_a_sidecars_own_order_whatever_its_clock_says(tmp_path: Path) -> None:
    logs = Logs()
    logs.logs = {"interceptor": [startup(), decision(1, at=100), decision(2, at=3), decision(3, at=200)]}
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == [1, 2, 3]


def test_counts_requests_and_not_what_the_guard_says_about_them(tmp_path: Path) -> None:
    logs = Logs()
    assert counts_of(tmp_path, LAUNCH.slug, LAUNCH.launch).to_json() == {"allow": 0, "deny": 0, "error": 0, "as_of": ""}
    write(logs, "interceptor", 0, 3)
    write(logs, "guard", 0, 5)
    logs.logs["interceptor"] += [
        decision(10, action="deny"),
        decision(11, action="error"),
        decision(12, action="answer"),
        decision(13, action="deny", host="denied.bottle-fsm.internal"),
        decision(14, action="deny", host="Denied.Bottle-FSM.internal."),
    ]
    collect_now(tmp_path, logs)
    found = counts_of(tmp_path, LAUNCH.slug, LAUNCH.launch)
    assert (found.allow, found.deny, found.error) == (3, 1, 1)
    assert found.as_of.startswith("20")


def test_counts_nothing_for_a_bottle_that_was_never_planned(tmp_path: Path) -> None:
    assert counts_of(tmp_path, "", "").as_of == ""
    assert counts_of(tmp_path, "..", "..").as_of == ""


@pytest.mark.parametrize("kill", range(1, LAST_STEP + 2))
def test_goes_on_after_a_collector_was_killed_anywhere(tmp_path: Path, kill: int) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 4)
    write(logs, "guard", 0, 4)
    alive = collect_now(tmp_path, logs, kill=kill)
    write(logs, "interceptor", 4, 2)
    assert collect_now(tmp_path, logs)
    assert [numbers(tmp_path, role) for role in ROLES] == [list(range(6)), list(range(4))]
    assert counts_of(tmp_path, LAUNCH.slug, LAUNCH.launch).allow == 6
    assert alive == (kill > LAST_STEP), "the range covers every step"


def test_cuts_off_a_line_that_was_not_written_to_its_end(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 2)
    collect_now(tmp_path, logs)
    with paths(tmp_path).newest.open("ab") as file:
        file.write(b'{"time": "' + b"x" * 10_000)
    write(logs, "interceptor", 2, 1)
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == [0, 1, 2]


def test_says_so_where_the_beginning_of_a_log_was_thrown_away(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 10)
    del logs.logs["interceptor"][:4]
    collect_now(tmp_path, logs)
    write(logs, "interceptor", 10, 40)
    del logs.logs["interceptor"][:20]
    collect_now(tmp_path, logs)
    first, second = [line for line in recorded(tmp_path) if line["event"] == "gap"]
    assert numbers(tmp_path, "interceptor") == ["gap", *range(3, 10), "gap", *range(23, 50)]
    assert (first["after"], first["time"]) == ("", "2026-05-01T00:00:03Z")
    assert (second["after"], second["time"]) == ("2026-05-01T00:00:09Z", "2026-05-01T00:00:23Z")


def test_takes_all_of_another_sidecars_log(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 3)
    collect_now(tmp_path, logs)
    collect_now(tmp_path, logs, whole=True)
    logs.logs["interceptor"] = [b"a warning", startup(50), decision(51), decision(52)]
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == [0, 1, 2, 51, 52]


def test_says_so_when_a_sidecar_went_that_nobody_had_collected_to_its_end(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 2)
    collect_now(tmp_path, logs, whole=True)
    write(logs, "interceptor", 2, 1)
    collect_now(tmp_path, logs)
    logs.logs["interceptor"] = [startup(50), decision(51)]
    collect_now(tmp_path, logs)
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == [0, 1, 2, "gap", 51]


def test_goes_on_when_the_cursor_was_lost(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 5)
    collect_now(tmp_path, logs)
    negative = {"version": 1, "size": -1, "counts": {}, "windows": {}}
    for damage in (b"", b"[]", b"{}", json.dumps(negative).encode(), b"{" * 5000):
        paths(tmp_path).cursor.write_bytes(damage)
        collect_now(tmp_path, logs)
    paths(tmp_path).cursor.unlink()
    write(logs, "interceptor", 5, 1)
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == list(range(6))
    assert counts_of(tmp_path, LAUNCH.slug, LAUNCH.launch).allow == 6


@pytest.fixture(name="small_files")
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "LIMIT", 500)
    monkeypatch.setattr(record, "SLICE", 1)


def test_fills_two_files_and_counts_what_had_to_go(tmp_path: Path, small_files: None) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 9)
    collect_now(tmp_path, logs)
    cursor = load(paths(tmp_path).cursor)
    assert (cursor.gone, cursor.older, cursor.lines) == (6, 2, 1)
    assert numbers(tmp_path, "interceptor") == [6, 7, 8]
    assert cursor.counts.allow == 9


def test_goes_on_when_it_was_killed_between_moving_a_full_file_and_telling(tmp_path: Path, small_files: None) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 6)
    collect_now(tmp_path, logs)
    at = paths(tmp_path)
    assert load(at.cursor).lines == 2
    at.newest.rename(at.older)
    write(logs, "interceptor", 6, 1)
    collect_now(tmp_path, logs)
    cursor = load(at.cursor)
    assert (cursor.gone, cursor.older, cursor.lines) == (4, 2, 1)
    assert numbers(tmp_path, "interceptor") == [4, 5, 6]


def test_counts_both_files_anew_when_the_cursor_was_lost(tmp_path: Path, small_files: None) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 3)
    collect_now(tmp_path, logs)
    paths(tmp_path).cursor.write_bytes(json.dumps({"version": 2}).encode())
    collect_now(tmp_path, logs)
    cursor = load(paths(tmp_path).cursor)
    assert (cursor.gone, cursor.older, cursor.lines, cursor.counts.allow) == (0, 2, 1, 3)
    assert numbers(tmp_path, "interceptor") == [0, 1, 2]


@pytest.mark.parametrize("damaged", [False, True])
def test_says_so_when_the_log_does_not_know_what_a_killed_collector_took(tmp_path: Path, damaged: bool) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 2)
    collect_now(tmp_path, logs)
    paths(tmp_path).cursor.unlink()
    if damaged:
        with paths(tmp_path).newest.open("ab") as file:
            file.write(b'{"source": "interceptor", \n')
    logs.logs["interceptor"] = [startup(50), decision(51)]
    collect_now(tmp_path, logs)
    shown = [json.loads(line) for line in paths(tmp_path).newest.read_bytes().splitlines() if line.endswith(b"}")]
    assert [line.get("bytes", line["event"]) for line in shown] == [0, 1, *([] if damaged else ["gap"]), 51]


def test_counts_what_somebody_cut_out_of_the_record(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 5)
    collect_now(tmp_path, logs)
    newest = paths(tmp_path).newest
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(keepends=True)[:2]))
    write(logs, "interceptor", 5, 1)
    collect_now(tmp_path, logs)
    assert numbers(tmp_path, "interceptor") == [0, 1, 5]
    cursor = load(paths(tmp_path).cursor)
    assert (cursor.lines, cursor.gone, cursor.counts.allow) == (3, 3, 6)


def test_follows_no_link_that_stands_in_its_place(tmp_path: Path) -> None:
    logs = Logs()
    write(logs, "interceptor", 0, 1)
    at = paths(tmp_path)
    at.folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    at.newest.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels"):
        collect_now(tmp_path, logs)
    assert (tmp_path / "precious").read_text() == "precious"


def test_waits_for_another_collector_and_not_for_ever(tmp_path: Path) -> None:
    with opened(paths(tmp_path), seconds=1):
        started = time.monotonic()
        with pytest.raises(BackendError, match="another process"), opened(paths(tmp_path), seconds=0.1):
            pass
        assert 0.05 < time.monotonic() - started < 5


# -- any order ---------------------------------------------------------------------------------------------------------

FORGETFUL = 1 << 24
"""With this limit the cursor may be lost; then nobody knows any more which log a file was made from."""
MOVES = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(ROLES), st.integers(1, 12)),
    st.tuples(st.just("collect"), st.just(""), st.integers(0, 40)),
    st.tuples(st.just("cut"), st.sampled_from(ROLES), st.integers(1, 30)),
    st.tuples(st.just("replace"), st.sampled_from(ROLES), st.just(0)),
    st.tuples(st.just("vanish"), st.sampled_from(ROLES), st.just(0)),
    st.tuples(st.just("forget"), st.just(""), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@given(
    moves=st.lists(MOVES, max_size=40), limit=st.sampled_from([600, 2000, 1 << 23, FORGETFUL]), size=st.integers(1, 7)
)
def test_keeps_every_line_once_and_in_order_in_any_interleaving(
    moves: list[tuple[str, str, int]], limit: int, size: int
) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(record, "LIMIT", limit)
    patch.setattr(record, "SLICE", size)
    with tempfile.TemporaryDirectory(dir=MEMORY) as top:
        try:
            _play(Path(top), moves, forgets=limit == FORGETFUL)
        finally:
            patch.undo()


def _play(state: Path, moves: list[tuple[str, str, int]], *, forgets: bool) -> None:
    logs, total = Logs(), 0
    cut: set[str] = set()
    replaced: set[str] = set()
    written: dict[str, list[int]] = {role: [] for role in ROLES}
    for move, role, number in moves:
        if move == "write":
            write(logs, role, total, number)
            written[role] += range(total, total + number)
            total += number
        elif move == "collect":
            collect_now(state, logs, kill=number)
        elif move == "cut" and role in logs.logs:
            cut.add(role)
            del logs.logs[role][:-number]
        elif move == "vanish" and role in logs.logs and not forgets:
            collect_now(state, logs)  # of one that came and went between two looks nobody can know
            written[role] += [total, total + 1]
            total, cut = total + 3, cut | {role}
            logs.logs[role] = [startup(total)]
        elif move == "replace" and collect_now(state, logs, whole=True, roles=(role,)):
            total, replaced = total + 1, replaced | {role}
            logs.logs[role] = [startup(total)]
        elif move == "forget" and forgets and paths(state).cursor.exists():
            paths(state).cursor.unlink()
            cut |= replaced  # nobody knows any more that the log before was collected to its end
    assert collect_now(state, logs)
    _judge(state, written, cut)


def _judge(state: Path, written: dict[str, list[int]], cut: set[str]) -> None:
    cursor = load(paths(state).cursor)
    shown = recorded(state) if paths(state).folder.exists() else []
    assert len(shown) == cursor.lines + cursor.older
    gone = cursor.gone
    for role in ROLES:
        found = numbers(state, role)
        kept = [n for n in found if n != "gap"]
        assert kept == sorted(set(map(int, kept))), "each once, in order"
        assert set(kept) <= set(written[role])
        if role not in cut:
            assert "gap" not in found
            assert kept == written[role][len(written[role]) - len(kept) :]
            gone -= len(written[role]) - len(kept)
        else:
            assert kept[-1:] == written[role][-1:] or not found or found[-1] == "gap" or gone
            _gaps_are_told(written[role], found, begins_later=cursor.gone > 0)
    if not cut:
        assert gone == 0, "what is missing was counted"
        assert cursor.counts.allow == len(written["interceptor"])


def _gaps_are_told(written: list[int], found: list[int | str], *, begins_later: bool) -> None:
    """See that where lines are missing a gap stands, or the beginning went with a full file."""
    missing_before = not begins_later
    position = 0
    for item in found:
        if item == "gap":
            missing_before = False
            position = -1
            continue
        if position >= 0 and missing_before:
            assert written[position] == item, "missing without a word"
        position = written.index(int(item)) + 1
        missing_before = True


# -- real processes ----------------------------------------------------------------------------------------------------

COLLECTOR = """
import sys, time
from pathlib import Path
from bottle_fsm.traffic import record
from bottle_fsm.traffic.collect import Sidecars, collect
from bottle_fsm.traffic.lines import SOURCES
from traffic.traffic_bench import LAUNCH
record.SLICE = 5
state, log = Path(sys.argv[1]), Path(sys.argv[2])
while True:
    collect(Sidecars(state, LAUNCH, lambda role, since: log.with_suffix("." + role).read_bytes()))
"""


def test_lets_several_processes_collect_at_once_and_be_killed(tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "log"
    state.mkdir()
    for role in ROLES:
        log.with_suffix("." + role).write_bytes(startup() + b"\n")
    seed = random.randrange(1 << 30)
    chosen, number = random.Random(seed), 0
    command = [sys.executable, "-c", COLLECTOR, str(state), str(log)]
    env = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}"}
    running: list[subprocess.Popen[bytes]] = []
    end = time.monotonic() + 5
    while time.monotonic() < end:
        running += [subprocess.Popen(command, env=env) for _ in range(3 - len(running))]
        for _ in range(20):
            with log.with_suffix("." + chosen.choice(ROLES)).open("ab") as file:
                file.write(decision(number) + b"\n")
            number += 1
            time.sleep(0.01)
        victim = running.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    for process in running:
        process.kill()
        process.wait()
    logs = Logs({role: log.with_suffix("." + role).read_bytes().splitlines() for role in ROLES})
    collect_now(state, logs)
    shown: Counter[Any] = Counter(line["bytes"] for line in recorded(state))
    assert shown == Counter(range(number)), seed
    for role in ROLES:
        mine = [json.loads(line)["bytes"] for line in logs.logs[role][1:]]
        assert numbers(state, role) == mine, seed
