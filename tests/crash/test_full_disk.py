"""It loses nothing when the disk is full: every write of the journal fails once, then a real limit on file sizes."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.errors import BottleError, StoreError
from bottle_fsm.store import journal as journal_module
from crash_cases import ENDED_WELL, ENDED_WITH_ERROR, Place
from crash_judge import finished_objects, judge

_WAYS = ("INSERT INTO event ", "COMMIT", "after COMMIT")
_MESSAGES = ("database or disk is full", "disk I/O error")


class _FaultyConnection(sqlite3.Connection):
    """A connection whose n-th write of one way fails, once: before it takes effect, or after."""

    way = ""
    left = 0
    message = ""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        cls = type(self)
        if not sql.startswith(cls.way.removeprefix("after ")) or not cls.way:
            return super().execute(sql, *args)
        cls.left -= 1
        if cls.left != 0:
            return super().execute(sql, *args)
        if cls.way.startswith("after"):
            super().execute(sql, *args)
        raise sqlite3.OperationalError(cls.message)


def forked_with_fault(place: Place, verb: str, way: str, number: int) -> int:
    """Run a verb in a process of its own whose journal fails at one write."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            _FaultyConnection.way, _FaultyConnection.left = way, number
            _FaultyConnection.message = _MESSAGES[number % 2]
            real = sqlite3.connect
            journal_module.sqlite3.connect = lambda *a, **k: real(*a, factory=_FaultyConnection, **k)  # type: ignore[attr-defined]
            place.act(verb)
            code = ENDED_WELL
        except StoreError:
            code = ENDED_WITH_ERROR
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("verb", ["apply", "destroy"])
@pytest.mark.parametrize("way", _WAYS)
def test_goes_on_after_any_write_failed(way: str, verb: str, place: Place) -> None:
    wrong: dict[int, list[str]] = {}
    number = 0
    code = ENDED_WITH_ERROR
    while code != ENDED_WELL:
        number += 1
        place.begin()
        if verb == "destroy":
            place.act("apply")
        code = forked_with_fault(place, verb, way, number)
        found = [] if code in {ENDED_WELL, ENDED_WITH_ERROR} else [f"ended with {code}"]
        finished = finished_objects(place)
        then = "apply" if verb == "apply" else "destroy"
        place.act(then)
        found += judge(place, then, finished)
        if found:
            wrong[number] = found
    assert wrong == {}
    assert number > 20


def forked_with_limit(place: Place, limit: int) -> int:
    """Launch in a process of its own whose files cannot grow beyond a size: the kernel refuses, not we."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            place.act("apply")
            code = ENDED_WELL
        except BottleError:
            code = ENDED_WITH_ERROR
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_goes_on_after_the_kernel_refused_to_write(place: Place) -> None:
    limit, refused = 60_000, 0
    code = ENDED_WITH_ERROR
    while code != ENDED_WELL:
        place.begin()
        code = forked_with_limit(place, limit)
        assert code in {ENDED_WELL, ENDED_WITH_ERROR}
        refused += code == ENDED_WITH_ERROR
        finished = finished_objects(place)
        place.act("apply")
        assert judge(place, "apply", finished) == []
        limit += 120_000
    assert refused > 3


def _mounted(folder: Path, size: str) -> bool:
    """Mount a file system of so many bytes; False where only an administrator may."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_goes_on_after_the_disk_was_full(place: Place, tmp_path: Path) -> None:
    """A real file system without room; the simulated engine's file lies elsewhere, as a real engine's data do."""
    if not _mounted(place.state, "4k"):
        pytest.skip("only an administrator may mount a small file system; the limit on file sizes is tested above")
    try:
        world = tmp_path / "world.json"
        refused = 0
        for room in ("64k", "128k", "256k", "512k", "768k", "1m", "4m"):
            subprocess.run(["mount", "-o", f"remount,size={room}", str(place.state)], check=True)
            if not (place.state / WORLD_FILE).is_symlink():
                (place.state / WORLD_FILE).symlink_to(world)
            code = place.forked("apply")
            assert code in {ENDED_WELL, ENDED_WITH_ERROR}
            refused += code == ENDED_WITH_ERROR
        assert code == ENDED_WELL
        assert refused >= 2
        assert judge(place, "apply", {}) == []
    finally:
        subprocess.run(["umount", str(place.state)], check=True)
