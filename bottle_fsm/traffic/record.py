"""The record of one launch: `<state root>/egress/<slug>/<launch>.jsonl`, one line each, every line once, in order.

Whoever collects may be killed at any time, and several may collect at once: a lock on the bottle's directory lets one
in, lines are appended before the cursor tells of them, and what an earlier one appended without telling is recognised.
Two files at most: a full one becomes `.jsonl.1` and takes the place of the one before, whose lines are counted as gone.
Not its duty: what a line says (`lines`), and which are new (`resume`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from bottle_fsm.errors import BackendError
from bottle_fsm.traffic.cursor import save
from bottle_fsm.traffic.paths import Paths
from bottle_fsm.traffic.recovery import known_in, recovered, rotated, source_of, with_gap, with_lines
from bottle_fsm.traffic.resume import Entry, Window, time_of

LIMIT: Final = 16 * 1024 * 1024
"""Bytes after which a file is full."""
SLICE: Final = 2048
"""Entries that are appended in one piece."""
_POLL: Final = 0.02


class LaunchRecord:
    """A launch's record while its lock is held; see `opened`."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._cursor, self._untold = recovered(paths)

    def window(self, source: str) -> Window:
        """Return where the log of a role was left."""
        try:
            return Window.from_json(self._cursor.windows[source])
        except (KeyError, TypeError, ValueError):
            return Window()

    def untold(self) -> frozenset[str]:
        """Return the roles of whose lines a killed collector appended some without telling."""
        return frozenset(map(source_of, self._untold))

    def close(self, sources: Mapping[str, bool]) -> None:
        """Note of each role that was read whether its log was collected to be taken away.

        Raises:
            OSError: as `add`.
        """
        told = {s: replace(self.window(s), closed=closed).to_json() for s, closed in sources.items()}
        windows = {**self._cursor.windows, **told}
        if windows != self._cursor.windows:
            self._cursor = replace(self._cursor, windows=windows)
            self._save()

    def add(self, entries: Mapping[str, Sequence[Entry]]) -> int:
        """Append what is new of each role, by time; return how many lines.

        Raises:
            OSError: the disk is full, or the record cannot be written. What was appended is recognised the next time.
        """
        told: list[Entry] = []
        fresh: dict[str, Sequence[Entry]] = {}
        for source, found in entries.items():
            had = [line for line in self._untold if source_of(line) == source]
            known = known_in(found, had)
            told += [replace(entry, line=None) for entry in found[:known]]
            fresh[source] = with_gap(found, had) if had and found and not known else found[known:]
        merged = list(_by_time(fresh))
        if self._untold or not merged:
            self._commit(told, self._untold)
            self._untold = []
        appended = 0
        for start in range(0, len(merged), SLICE):
            part = merged[start : start + SLICE]
            lines = [entry.line for entry in part if entry.line is not None]
            if lines:
                self._make_room()
                self._append(lines)
            self._commit(part, lines)
            appended += len(lines)
        return appended

    # -- inside ------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        if self._cursor.size < LIMIT:
            return
        self._paths.newest.rename(self._paths.older)
        self._cursor = rotated(self._cursor)
        self._save()

    def _append(self, lines: Sequence[bytes]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._paths.newest, flags, 0o600)
        try:
            left = memoryview(b"".join(line + b"\n" for line in lines))
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        self._cursor = replace(self._cursor, size=found.st_size, inode=found.st_ino)

    def _commit(self, entries: Sequence[Entry], lines: Sequence[bytes]) -> None:
        """Tell of lines that stand in the newest file, and that everything up to some entries is done."""
        windows = {source: self.window(source) for source in {entry.source for entry in entries}}
        for entry in entries:
            time_kept = time_of(entry.line) if entry.line else ""
            windows[entry.source] = windows[entry.source].after(entry, time_kept)
        told = {source: window.to_json() for source, window in windows.items()}
        counts = with_lines(self._cursor.counts, lines)
        total = self._cursor.lines + len(lines)
        self._cursor = replace(self._cursor, lines=total, counts=counts, windows={**self._cursor.windows, **told})
        self._save()

    def _save(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._cursor = replace(self._cursor, counts=replace(self._cursor.counts, as_of=now))
        save(self._paths.cursor, self._cursor)


@contextmanager
def opened(paths: Paths, *, seconds: float) -> Iterator[LaunchRecord]:
    """Open a launch's record for appending, for as long as the body runs.

    Raises:
        BackendError: another process had it for so many seconds.
        OSError: the directory cannot be made or read.
    """
    for folder in (paths.folder.parent, paths.folder):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    descriptor = os.open(paths.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _lock(descriptor, seconds, paths)
        yield LaunchRecord(paths)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, seconds: float, paths: Paths) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise BackendError("another process collects decisions", place=str(paths.folder)) from None
            time.sleep(_POLL)
        else:
            return


def _by_time(entries: Mapping[str, Sequence[Entry]]) -> Iterator[Entry]:
    """Merge the roles' entries by time; each role's own order is kept, whatever its clock says."""
    queues = {source: list(reversed(found)) for source, found in entries.items() if found}
    moments = dict.fromkeys(queues, 0.0)
    while queues:
        for source, queue in queues.items():
            moment = queue[-1].moment
            moments[source] = max(moments[source], 0.0 if moment is None else moment)
        source = min(queues, key=lambda name: moments[name])
        yield queues[source].pop()
        if not queues[source]:
            del queues[source]
