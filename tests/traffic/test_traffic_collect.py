"""Collecting: only what is needed is asked for, nothing hangs, nothing is raised, and logs of others are told apart."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.errors import EngineUnavailableError, NoLogError
from bottle_fsm.model import Launch
from bottle_fsm.traffic.collect import Collected, Sidecars, collect
from bottle_fsm.traffic.lines import Origin
from bottle_fsm.traffic.record import opened
from bottle_fsm.traffic.resume import SLACK_SECONDS, WINDOW, Window, complete_lines, digest, found_in, new_entries
from traffic.traffic_bench import BEGIN, LAUNCH, Logs, collect_now, decision, paths, recorded, sidecars, startup

ORIGIN = Origin("interceptor", "demo/one", LAUNCH.launch)
HOUR = 3600.0


def long_log(hours: int) -> list[bytes]:
    return [startup(), *(decision(n, at=n * HOUR) for n in range(1, hours))]


def shown(state: Path) -> list[Any]:
    return [line.get("bytes", line["event"]) for line in recorded(state)]


def test_asks_only_for_what_came_after_the_last_line_and_a_little_before(tmp_path: Path) -> None:
    logs = Logs({"interceptor": long_log(10)})
    collect_now(tmp_path, logs)
    logs.asked.clear()
    logs.logs["interceptor"].append(decision(10, at=10 * HOUR))
    collect_now(tmp_path, logs)
    assert logs.asked == [("interceptor", BEGIN.timestamp() + 9 * HOUR - SLACK_SECONDS), ("guard", 0.0)]
    assert shown(tmp_path) == list(range(1, 11))


def test_reads_a_log_whole_before_it_goes(tmp_path: Path) -> None:
    logs = Logs({"interceptor": long_log(5)})
    collect_now(tmp_path, logs)
    logs.asked.clear()
    collect_now(tmp_path, logs, whole=True, roles=("interceptor",))
    assert logs.asked == [("interceptor", 0.0)]
    assert shown(tmp_path) == [1, 2, 3, 4]


def test_reads_a_log_whole_when_the_last_line_is_not_in_its_end(tmp_path: Path) -> None:
    logs = Logs({"interceptor": long_log(5)})
    collect_now(tmp_path, logs)
    logs.logs["interceptor"] = [startup(at=5 * HOUR), decision(5, at=5 * HOUR), decision(6, at=2)]
    logs.asked.clear()
    collect_now(tmp_path, logs)
    assert [since for role, since in logs.asked if role == "interceptor"][1:] == [0.0]
    assert shown(tmp_path) == [1, 2, 3, 4, "gap", 5, 6]


def test_collects_what_a_killed_collector_left_of_a_role_that_was_not_asked_for(tmp_path: Path) -> None:
    """Else the lines that stand there untold would be taken for new ones later."""
    logs = Logs({"interceptor": [startup(), decision(1)], "guard": [startup(), decision(2)]})
    for kill in range(1, 9):
        collect_now(tmp_path, logs, kill=kill)
        collect_now(tmp_path, logs, roles=("guard",))
        logs.logs["interceptor"].append(decision(10 + kill))
    collect_now(tmp_path, logs)
    assert sorted(shown(tmp_path)) == [1, 2, *range(11, 19)]


def test_takes_nothing_of_either_when_one_cannot_be_read(tmp_path: Path) -> None:
    logs = Logs({"interceptor": [startup(), decision(1)], "guard": [startup(), decision(2)]})

    def read(role: str, since: float) -> bytes:
        if role == "guard":
            raise EngineUnavailableError("the engine is away", hint="Start it")
        return logs.read(role, since)

    collect_now(tmp_path, logs)
    logs.logs["interceptor"].append(decision(3))
    ended = collect(Sidecars(tmp_path, LAUNCH, read))
    assert ended == Collected(problem="the engine is away")
    assert shown(tmp_path) == [1, 2]


def test_says_how_many_lines_are_new(tmp_path: Path) -> None:
    logs = Logs({"interceptor": [startup(), decision(1), decision(2)]})
    assert collect(sidecars(tmp_path, logs)) == Collected(lines=2)
    assert collect(sidecars(tmp_path, logs)) == Collected(lines=0)


def test_raises_nothing_whatever_goes_wrong(tmp_path: Path) -> None:
    def broken(role: str, since: float) -> bytes:
        raise RuntimeError("nobody expects this")

    ended = collect(Sidecars(tmp_path, LAUNCH, broken))
    assert ended == Collected(problem="RuntimeError: nobody expects this")
    (tmp_path / "egress").write_text("in the way")
    ended = collect(sidecars(tmp_path, Logs({"guard": [startup(), decision(1)]})))
    assert ended.problem.startswith("NotADirectoryError")
    hostile = Launch("root", "demo/one", "../../etc", "one", 1)
    assert collect(Sidecars(tmp_path, hostile, broken)).problem == "has no name that a file can have"


def test_gives_up_in_time_and_does_no_harm_later(tmp_path: Path) -> None:
    logs, go_on = Logs({"interceptor": [startup(), decision(1)]}), threading.Event()

    def slow(role: str, since: float) -> bytes:
        go_on.wait(10)
        return logs.read(role, since)

    started = time.monotonic()
    ended = collect(Sidecars(tmp_path, LAUNCH, slow), seconds=0.2)
    assert ended == Collected(problem="no answer within 0.2 s")
    assert time.monotonic() - started < 5
    go_on.set()
    end = time.monotonic() + 10
    while not paths(tmp_path).cursor.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    with opened(paths(tmp_path), seconds=5):
        pass
    assert collect(sidecars(tmp_path, logs)).problem == ""
    assert shown(tmp_path) == [1]


# -- where new lines begin ---------------------------------------------------------------------------------------------


def window_of(lines: list[bytes]) -> Window:
    window = Window()
    for entry in new_entries(Window(), [startup(), *lines], ORIGIN):
        window = window.after(entry, "")
    return window


def test_leaves_a_line_that_is_still_written_for_the_next_time() -> None:
    assert complete_lines(b"a\nb\nhalf") == [b"a", b"b"]
    assert complete_lines(b"") == []


def test_remembers_no_more_than_the_last_lines() -> None:
    window = window_of([decision(n) for n in range(100)])
    assert window.digests == tuple(digest(decision(n)) for n in range(100 - WINDOW, 100))
    assert Window.from_json(window.to_json()) == window


def test_finds_the_end_among_lines_that_look_alike() -> None:
    same, other = b"the same words", decision(1)
    lines = [other, same, same, decision(2), same, same, same]
    window = window_of(lines[:3])
    assert found_in(window, [startup(), *lines]) == 4
    assert found_in(window, lines) == 3, "the beginning is gone"
    assert found_in(window, [decision(5), *lines[2:]]) is None
    assert found_in(Window(), lines) is None


def test_takes_nothing_of_an_unknown_log_before_it_shows_an_event() -> None:
    window = replace(window_of([decision(1)]), closed=True)
    warnings = [b"a warning", b'{"event": "log", "line": 3}']
    assert new_entries(window, warnings, ORIGIN) == []
    taken = new_entries(window, [*warnings, startup(), decision(2)], ORIGIN)
    assert [entry.line is None for entry in taken] == [True, True, True, False]
    gapped = new_entries(window, [*warnings, decision(2)], ORIGIN)
    assert b'"gap"' in (gapped[0].line or b"")


def test_needs_all_of_a_log_whose_lines_tell_no_time() -> None:
    window = Window().after(new_entries(Window(), [b'{"event": "startup"}'], ORIGIN)[0], "")
    assert (window.digests != (), window.since) == (True, 0.0)


def test_says_that_there_is_no_log() -> None:
    with pytest.raises(NoLogError):
        Logs().read("guard", 0.0)
