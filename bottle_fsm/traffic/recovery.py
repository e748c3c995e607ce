"""What a collector that was killed left: the cursor as it should be, and the lines of which it does not tell.

Nothing whole is ever taken out of a record: a line that was appended counts, whether its collector lived to tell or
not. Only a line that was not written to its end is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bottle_fsm.traffic.cursor import Counts, Cursor, load
from bottle_fsm.traffic.lines import Origin, counted, gap, read
from bottle_fsm.traffic.paths import Paths
from bottle_fsm.traffic.resume import Entry


def recovered(paths: Paths) -> tuple[Cursor, list[bytes]]:
    """Return the cursor as it should be, and the whole lines of the newest file of which it does not tell."""
    cursor = load(paths.cursor)
    newest, older = _inode(paths.newest), _inode(paths.older)
    if cursor.inode and newest != cursor.inode and older == cursor.inode:
        cursor = rotated(cursor)
    elif not cursor.counts.as_of and older:  # the cursor was lost
        lines = _lines_from(paths.older, 0)
        cursor = replace(cursor, older=len(lines), counts=with_lines(cursor.counts, lines))
    size = _ended(paths.newest)
    if size < cursor.size:  # somebody shortened it: what is missing was told, and is gone
        kept = len(_lines_from(paths.newest, 0))
        cursor = replace(cursor, size=size, lines=kept, gone=cursor.gone + max(0, cursor.lines - kept))
    untold = _lines_from(paths.newest, cursor.size)
    return replace(cursor, size=size, inode=newest), untold


def rotated(cursor: Cursor) -> Cursor:
    """Return the cursor when the newest file has become the older one, in the place of the one before."""
    return replace(cursor, size=0, inode=0, lines=0, older=cursor.lines, gone=cursor.gone + cursor.older)


def known_in(entries: Sequence[Entry], had: Sequence[bytes]) -> int:
    """Return how many of a log's new entries stand in the record already; `had` are lines that were not told."""
    kept = [index for index, entry in enumerate(entries) if entry.line is not None]
    if not had:
        return 0
    if [entries[index].line for index in kept[: len(had)]] == list(had):
        return kept[len(had) - 1] + 1
    # The log lost its beginning since, or the cursor was lost and the log is older than the file.
    return next((index + 1 for index in reversed(kept) if entries[index].line == had[-1]), 0)


def with_gap(entries: Sequence[Entry], had: Sequence[bytes]) -> list[Entry]:
    """Return the entries of a log that knows nothing of the lines that a killed collector took, behind a gap."""
    last = read(had[-1])
    if not last or not entries[0].digest:  # damaged, or told already
        return list(entries)
    origin = Origin(entries[0].source, str(last.get("bottle", "")), str(last.get("launch", "")))
    line = gap(origin, after=str(last.get("time", "")), before="")
    return [Entry(origin.source, "", None, line), *entries]


def with_lines(counts: Counts, lines: Iterable[bytes]) -> Counts:
    """Return the counts with some more lines."""
    for line in lines:
        counts = counts.plus(counted(line))
    return counts


def source_of(line: bytes) -> str:
    """Return the role that a line of the record is of."""
    return line.partition(b'"source": "')[2].partition(b'"')[0].decode("ascii", errors="replace")


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def _ended(path: Path) -> int:
    """Cut off a line that was not written to its end, and return the file's size."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    with os.fdopen(descriptor, "r+b") as file:
        whole = size = file.seek(0, os.SEEK_END)
        while whole:
            start = max(0, whole - 4096)
            file.seek(start)
            end = file.read(whole - start).rfind(b"\n")
            whole = start + end + 1
            if end >= 0:
                break
        if whole < size:
            file.truncate(whole)
        return whole


def _lines_from(path: Path, offset: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
