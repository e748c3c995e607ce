"""Reads a launch's record: its last lines, all of them, and those that are still to come. Takes no lock.

Not its duty: collecting, and showing.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bottle_fsm.traffic.paths import Paths


class Reader:
    """The lines of one launch's record from where it stands to its end, again and again; a context manager.

    A file that is full becomes the older one under the reader's hands: it is read to its end, then the newest.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, tail: int | None = None) -> list[bytes]:
        """Return what is there: the last so many lines, or all; `more` goes on after them."""
        newest = _open(self._paths.newest)
        older = _open(self._paths.older)
        self._file = newest
        found: deque[bytes] = deque(maxlen=tail)
        if older is not None:
            with older:
                if newest is None or not os.path.sameopenfile(older.fileno(), newest.fileno()):
                    found.extend(_whole_lines(older))
        found.extend(self.more())
        return list(found)

    def more(self) -> Iterator[bytes]:
        """Yield the lines that came since."""
        while True:
            if self._file is not None:
                yield from _whole_lines(self._file)
            if self._is_newest():
                return
            # It was full; what was appended before that may have come after it was read.
            if self._file is not None:
                yield from _whole_lines(self._file)
                self._file.close()
            self._file = _open(self._paths.newest)
            if self._file is None:
                return

    def _is_newest(self) -> bool:
        try:
            there = os.stat(self._paths.newest)  # noqa: PTH116 - beside `fstat`
        except FileNotFoundError:
            return True
        return self._file is not None and os.path.samestat(os.fstat(self._file.fileno()), there)


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
