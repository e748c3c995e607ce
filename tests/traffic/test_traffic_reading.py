"""Reading beside a collector: each line once, although files are filled, moved and thrown away under the reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottle_fsm.traffic import record
from bottle_fsm.traffic.lines import read
from bottle_fsm.traffic.reading import Reader
from traffic.traffic_bench import MEMORY, Logs, collect_now, decision, paths, startup

LINES_OF_TWO_FILES = 6


def numbers(lines: Any) -> list[int]:
    return [read(line)["bytes"] for line in lines]


def test_shows_the_last_lines_and_then_what_comes(tmp_path: Path) -> None:
    logs = Logs({"interceptor": [startup(), *(decision(n) for n in range(5))]})
    collect_now(tmp_path, logs)
    with Reader(paths(tmp_path)) as reader:
        assert numbers(reader.begin(2)) == [3, 4]
        assert numbers(reader.more()) == []
        logs.logs["interceptor"] += [decision(5), decision(6)]
        collect_now(tmp_path, logs)
        assert numbers(reader.more()) == [5, 6]


def test_waits_for_a_record_that_is_not_there_yet(tmp_path: Path) -> None:
    with Reader(paths(tmp_path)) as reader:
        assert reader.begin() == []
        assert list(reader.more()) == []
        collect_now(tmp_path, Logs({"interceptor": [startup(), decision(1)]}))
        assert numbers(reader.more()) == [1]


def test_leaves_a_line_alone_that_is_still_written(tmp_path: Path) -> None:
    collect_now(tmp_path, Logs({"interceptor": [startup(), decision(1)]}))
    with Reader(paths(tmp_path)) as reader, paths(tmp_path).newest.open("ab") as file:
        assert numbers(reader.begin()) == [1]
        file.write(b'{"bytes"')
        file.flush()
        assert list(reader.more()) == []
        file.truncate(file.tell() - 8)
        file.write(b'{"bytes": 2}\n')
        file.flush()
        assert numbers(reader.more()) == [2]


def test_stays_where_it_is_when_the_record_was_pruned(tmp_path: Path) -> None:
    collect_now(tmp_path, Logs({"interceptor": [startup(), decision(1)]}))
    with Reader(paths(tmp_path)) as reader:
        assert numbers(reader.begin()) == [1]
        paths(tmp_path).newest.unlink()
        assert list(reader.more()) == []


def test_reads_the_older_file_once_when_it_was_the_newest_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = paths(tmp_path)
    collect_now(tmp_path, Logs({"interceptor": [startup(), decision(1)]}))
    real = Path.open

    def rotated_meanwhile(self: Path, *arguments: Any, **more: Any) -> Any:
        file = real(self, *arguments, **more)
        if self == at.newest and not at.older.exists():
            at.newest.rename(at.older)
            at.newest.write_bytes(b'{"bytes": 2}\n')
        return file

    monkeypatch.setattr(Path, "open", rotated_meanwhile)
    with Reader(at) as reader:
        assert numbers(reader.begin()) == [1, 2]


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.integers(0, 5), max_size=25))
def test_follows_over_every_full_file(steps: list[int]) -> None:
    """As long as no three files were filled since its last look; a number is so many lines, 0 a look."""
    patch = pytest.MonkeyPatch()
    patch.setattr(record, "LIMIT", 1200)
    patch.setattr(record, "SLICE", 1)
    logs, written, unseen = Logs({"interceptor": [startup()]}), 0, 0
    with tempfile.TemporaryDirectory(dir=MEMORY) as top, Reader(paths(Path(top))) as reader:
        try:
            found = numbers(reader.begin())
            for count in steps:
                if count == 0 or unseen + count > LINES_OF_TWO_FILES:
                    found += numbers(reader.more())
                    unseen = 0
                logs.logs["interceptor"] += [decision(n) for n in range(written, written + count)]
                written, unseen = written + count, unseen + count
                collect_now(Path(top), logs)
            found += numbers(reader.more())
        finally:
            patch.undo()
    assert found == list(range(written))
