"""Reading a small file: each reason for not reading it, and no descriptor left open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bottle_fsm.smallfile import UnreadableError, read_small_file


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def reason(path: Path, limit: int = 1024) -> str:
    before = open_descriptors()
    with pytest.raises(UnreadableError) as caught:
        read_small_file(path, limit)
    assert open_descriptors() == before
    return caught.value.reason


def test_reads_a_file_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1024)
    assert read_small_file(tmp_path / "f", 1024) == b"x" * 1024


def test_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("f")
    assert read_small_file(tmp_path / "link", 1024) == b"x"


def test_says_why_a_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (2**20 + 1))
    os.mkfifo(tmp_path / "pipe")
    assert reason(tmp_path / "none") == "does not exist"
    assert reason(tmp_path / "big") == "is larger than 1 KiB"
    assert reason(tmp_path / "big", 2**20) == "is larger than 1 MiB"
    assert reason(tmp_path) == "is a directory"
    assert reason(tmp_path / "pipe") == "is not a regular file"
    assert reason(Path("/dev/zero")) == "is not a regular file"
    assert reason(tmp_path / ("x" * 300)) == "cannot be read (File name too long)"
    assert reason(Path("a\0b")) == "cannot be read (embedded null byte)"


def test_says_that_reading_itself_failed() -> None:
    # Offset 0 of a process's memory is never mapped: the file opens, and its first read fails.
    assert reason(Path("/proc/self/mem")) == "cannot be read (Input/output error)"
