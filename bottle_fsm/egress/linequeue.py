"""Lines on their way to a descriptor that may be slow, full or gone: whoever writes one never waits for it.

A line that the descriptor takes at once is written at once. Else it waits in a bounded queue for a thread of its own;
what has no room is counted, and one line tells the count where the lost ones would stand. The order is kept.
Not its duty: what a line holds.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

LIMIT: Final = 2 * 1024 * 1024
"""Bytes that may wait."""
RETRY_SECONDS: Final = 1.0
"""How long a descriptor that refused a line is left alone."""
_BUSY_SECONDS: Final = 0.05


class LineQueue:
    """The lines of one process to one descriptor."""

    def __init__(self, descriptor: int, *, lost: Callable[[int], bytes], limit: int = LIMIT) -> None:
        """Write to `descriptor`; `lost` makes the line that tells how many are missing; `limit` bytes may wait."""
        self._descriptor = os.dup(descriptor)  # the thread's own: a number that is closed may be another file's soon
        self._tell = lost
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, int]] = deque()  # a line, and how many it stands for
        self._held = 0
        self._lost = 0
        self._writing = False
        self._refused = False
        self._torn = False
        self._thread: threading.Thread | None = None
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def put(self, line: bytes) -> None:
        """Send a line on its way; returns at once, whatever becomes of it."""
        with self._changed:
            self._admit(line)
            if not self._writing:
                self._write_what_fits()
            if self._waiting or self._lost:
                self._wake()

    def close(self, seconds: float) -> None:
        """Wait until nothing waits any more, for so many seconds at most."""
        end = time.monotonic() + seconds
        with self._changed:
            while (self._waiting or self._writing) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    # -- under the lock ----------------------------------------------------------------------------------------------

    def _admit(self, line: bytes) -> None:
        # Once lines were lost, more are until half of the room is free: else every other line would tell a count.
        if self._held + len(line) > (self._limit // 2 if self._lost else self._limit):
            self._lost += 1
            return
        self._tell_lost()
        self._append(line, 1)

    def _tell_lost(self) -> None:
        if self._lost:
            count, self._lost = self._lost, 0
            self._append(self._tell(count), count)

    def _append(self, line: bytes, count: int) -> None:
        self._waiting.append((line, count))
        self._held += len(line)

    def _take(self) -> tuple[bytes, int]:
        line, count = self._waiting.popleft()
        self._held -= len(line)
        return line, count

    def _write_what_fits(self) -> None:
        """Write as long as it is sure not to wait: a pipe that is ready takes so many bytes in one piece."""
        while self._waiting and len(self._waiting[0][0]) < select.PIPE_BUF and self._poll.poll(0):
            self._account(*self._take_and_write())

    def _take_and_write(self) -> tuple[int, bool]:
        line, count = self._take()
        return count, self._write(line)

    def _account(self, count: int, written: bool) -> None:  # noqa: FBT001 - private, one caller's two results
        self._refused = not written
        if not written:
            self._lost += count

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._lost and not self._refused:
                        self._tell_lost()
                        break
                    self._changed.notify_all()
                    self._refused = self._changed.wait(RETRY_SECONDS if self._lost else None) and self._refused
                line, count = self._take()
                self._writing = True
            written = self._write(line)
            with self._changed:
                self._writing = False
                self._account(count, written)

    def _write(self, line: bytes) -> bool:
        """Write a line whole; False when the descriptor refused it. What is left of a torn one is ended first."""
        data = memoryview(b"\n" + line if self._torn else line)
        left = data
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody else made the descriptor so
                    time.sleep(_BUSY_SECONDS)
        except OSError:
            self._torn = self._torn or 0 < len(left) < len(data)
            return False
        self._torn = False
        return True
