"""Reads a launch's record: its last lines, all of them, and those that are still to come. Takes no lock.

Not its duty: collecting, and showing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bottle_fsm.traffic.paths import Paths


class Reader:
    """The lines of one launch's record from where it stands to its end, again and again; a context manager.

    A file that is full becomes the older one under the reader's hands: it is read to its end, then the newest. One that
    was filled meanwhile is the older one by then, and read, too; only of three since the last look one is missed.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._file: IO[bytes] | None = None
        self._seen: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, tail: int | None = None) -> list[bytes]:
        """Return what is there: the last so many lines, or all; `more` goes on after them."""
        return list(deque(itertools.chain(self._next(), self.more()), maxlen=tail))

    def more(self) -> Iterator[bytes]:
        """Yield the lines that came since."""
        if self._file is not None:
            yield from _whole_lines(self._file)
        while not self._is_newest():
            yield from self._next()

    def _next(self) -> Iterator[bytes]:
        """Yield the rest of the file that was the newest, and everything after it."""
        newest = _open(self._paths.newest)
        if self._file is not None:  # what was appended before it was full may have come after it was read
            yield from _whole_lines(self._file)
        older = _open(self._paths.older)
        if older is not None:
            with older:
                if _identity(older) not in {self._seen, _identity(newest) if newest else None}:
                    yield from _whole_lines(older)
                    self._seen = _identity(older)
        if self._file is not None:
            self._file.close()
        self._file = newest
        if newest is not None:
            self._seen = _identity(newest)
            yield from _whole_lines(newest)

    def _is_newest(self) -> bool:
        try:
            there = os.stat(self._paths.newest)  # noqa: PTH116 - beside `fstat`
        except FileNotFoundError:
            return True
        return self._file is not None and _identity(self._file) == (there.st_dev, there.st_ino)


def _identity(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _open(path: Path) -> IO[bytes] | None:
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    return None


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines that have ended; one that is still written is left for the next time."""
    while True:
        at = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(at)
            return
        yield line[:-1]
