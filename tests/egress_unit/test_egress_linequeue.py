"""Lines to a descriptor that is slow, full or gone: nobody waits, the order is kept, and what is missing is counted."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress import linequeue
from bottle_fsm.egress.jsonlines import DECISION, JsonLines
from bottle_fsm.egress.linequeue import LineQueue

PIPE = 2 * 4096


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Give a pipe that is small: one page, and one more by which it is known to have room."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
    open_ends = [read, write]
    try:
        yield read, write
    finally:
        for end in open_ends:
            os.close(end)


def queue_to(descriptor: int, limit: int) -> LineQueue:
    return LineQueue(descriptor, lost=lambda count: b"-%d\n" % count, limit=limit)


def drained(read: int, queue: LineQueue) -> list[bytes]:
    """Read everything that is still to come."""
    os.set_blocking(read, False)
    data = b""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        queue.close(0.01)
        with queue._changed:
            done = not (queue._waiting or queue._writing or queue._lost)
        try:
            data += os.read(read, 1 << 20)
        except BlockingIOError:
            if done:
                break
    os.set_blocking(read, True)
    return data.splitlines()


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def holes_filled(lines: list[bytes]) -> list[int]:
    """Return the numbers of the lines in order, those that a count stands for as well."""
    found: list[int] = []
    for line in lines:
        number = int(line)
        found += range(len(found), len(found) - number) if number < 0 else [number]
    return found


def numbered(number: int, size: int = 0) -> bytes:
    return b"%d" % number + b" " * size + b"\n"


def test_writes_at_once_and_without_a_thread_what_a_pipe_takes() -> None:
    with pipe() as (read, write):
        queue = queue_to(write, 100)
        before = threading.active_count()
        queue.put(b"1\n")
        queue.put(b"2\n")
        assert threading.active_count() == before
        assert os.read(read, 100) == b"1\n2\n"


def test_never_waits_for_a_pipe_that_nobody_reads_and_tells_how_many_are_missing() -> None:
    with pipe() as (read, write):
        queue = queue_to(write, 50_000)
        started = time.monotonic()
        for number in range(20_000):
            queue.put(numbered(number, 50))
        assert time.monotonic() - started < 5
        assert queue._held <= 50_000
        lines = drained(read, queue)
    assert holes_filled(lines) == list(range(20_000))
    assert [line for line in lines if line.startswith(b"-")] == lines[-1:], "one count, where the lost ones would stand"
    assert int(lines[-1]) < -18_000


@given(st.lists(st.one_of(st.integers(1, 400), st.just(-1), st.just(0)), max_size=60))
def test_keeps_the_order_and_counts_every_missing_line(moves: list[int]) -> None:
    """A number is a burst of so many lines; -1 reads what is there, 0 lets the thread work."""
    sent = 0
    lines: list[bytes] = []
    with pipe() as (read, write):
        queue = queue_to(write, 3000)
        data = b""
        os.set_blocking(read, False)
        for move in moves:
            if move > 0:
                for _ in range(move):
                    queue.put(numbered(sent, 20))
                    sent += 1
            elif move == 0:
                queue.close(0.001)
            else:
                try:
                    data += os.read(read, 2000)
                except BlockingIOError:
                    continue
        rest = drained(read, queue)
        lines = [*data.splitlines()[:-1], *_joined(data, rest)]
    assert holes_filled(lines) == list(range(sent))


def _joined(data: bytes, rest: list[bytes]) -> list[bytes]:
    """Put together a line that was cut between two reads."""
    last = data.splitlines()[-1:] or [b""]
    if not data or data.endswith(b"\n"):
        return [*(last if data else []), *rest]
    return [last[0] + (rest[0] if rest else b""), *rest[1:]]


def test_counts_what_a_full_disk_refused_and_tells_it_when_there_is_room(tmp_path: Path) -> None:
    target = os.open("/dev/full", os.O_WRONLY)
    queue = queue_to(target, 1000)
    for number in range(3):
        queue.put(numbered(number))
    assert queue._lost == 3
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, queue._descriptor)
    queue.put(b"3\n")
    os.close(file)
    assert (tmp_path / "log").read_bytes() == b"-3\n3\n"
    os.close(target)


def test_tells_what_is_missing_although_no_line_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linequeue, "RETRY_SECONDS", 0.02)
    target = os.open("/dev/full", os.O_WRONLY)
    queue = queue_to(target, 1000)
    queue.put(b"0\n")
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, queue._descriptor)
    os.close(file)
    wait_for(lambda: (tmp_path / "log").read_bytes() == b"-1\n")
    assert queue._lost == 0
    os.close(target)


def test_goes_on_when_its_reader_left() -> None:
    read, write = os.pipe()
    os.close(read)
    queue = queue_to(write, 1000)
    queue.put(b"0\n")
    queue.put(b"1\n")
    queue.close(0.1)
    assert queue._lost == 2
    os.close(write)


def test_ends_a_line_that_was_torn_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    answers = iter([3, 0, 100, 100])

    def write(_: int, data: memoryview) -> int:
        answer = next(answers)
        if answer == 0:
            raise OSError("full")
        written.append(bytes(data[:answer]))
        return min(answer, len(data))

    target = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    queue = queue_to(target, 1000)
    monkeypatch.setattr(os, "write", write)
    queue.put(b"torn line\n")
    queue.put(b"next\n")
    monkeypatch.undo()
    assert written == [b"tor", b"\n-1\n", b"next\n"]
    os.close(target)


def test_waits_in_the_background_for_a_descriptor_that_somebody_made_impatient() -> None:
    with pipe() as (read, write):
        os.set_blocking(write, False)
        queue = queue_to(write, 100_000)
        for number in range(1000):
            queue.put(numbered(number, 20))
        assert holes_filled(drained(read, queue)) == list(range(1000))


def test_gives_the_last_lines_time_and_no_more() -> None:
    with pipe() as (_, write):
        queue = queue_to(write, 100_000)
        for number in range(1000):
            queue.put(numbered(number, 20))
        started = time.monotonic()
        queue.close(0.2)
        assert 0.15 < time.monotonic() - started < 2


def test_writes_to_a_descriptor_with_the_count_as_an_event() -> None:
    with pipe() as (read, write):
        lines = JsonLines(descriptor=write, bottle="p/a", launch="l")
        assert lines._queue is not None
        lines._queue._limit = 1000
        for number in range(200):
            lines.write("decision", port=number)
        found = [json.loads(line) for line in drained(read, lines._queue)]
        lines.close()
    dropped = [line for line in found if line["event"] == "dropped"]
    assert dropped, "more was written than there was room for"
    assert {(line["bottle"], line["launch"]) for line in dropped} == {("p/a", "l")}
    assert sum(line["lines"] for line in dropped) == 200 - (len(found) - len(dropped))
    assert all(DECISION.keys() <= line.keys() for line in found if line not in dropped)


def test_keeps_every_line_far_below_the_size_at_which_an_engine_cuts_it() -> None:
    with pipe() as (read, write):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        lines = JsonLines(descriptor=write, bottle="p/a", launch="l")
        hostile = dict.fromkeys(("host", "method", "path", "rule", "reason", "by"), "\U0001f600" * 5000)
        lines.write("decision", **hostile, findings=["x" * 100] * 500)
        assert lines._queue is not None
        (line,) = drained(read, lines._queue)
    value = json.loads(line)
    assert len(line) < 16_000
    assert (len(value["findings"]), len(value["path"])) == (16, 170)
