"""The launcher's ends of a command's pipes: written in the background, read until they close or time is up.

Not its duty: what the command is, and who started it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Final

from bottle_fsm.failpoints import hit

CHUNK: Final = 1 << 16


class Input:
    """The writing end of a command's input. Closing it while a thread writes never hands its number to another file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writers = 0
        self._closing = False
        self._guard = threading.RLock()  # a signal handler may come in between and write, too

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: the command reads no more, or this was closed.
        """
        with self._guard:
            if self._closing:
                raise BrokenPipeError(errno.EPIPE, "closed")
            self._writers += 1
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._guard:
            self._writers -= 1
            if self._closing and not self._writers:
                os.close(self._descriptor)

    def close(self) -> None:
        """Close it; a thread that still writes goes on into nothing, and closes it when it is done."""
        with self._guard:
            if self._closing:
                return
            self._closing = True
            if not self._writers:
                os.close(self._descriptor)
                return
            nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nothing, self._descriptor, inheritable=False)
            os.close(nothing)


def feed(target: Input, source: IO[bytes] | None, length: int) -> None:
    """Send so many bytes of a source in the background, and then the end; without a source the end alone."""
    if source is None:
        target.close()
        return
    threading.Thread(target=_feed, args=(target, source, length), daemon=True, name="exec-input").start()


def _feed(target: Input, source: IO[bytes], length: int) -> None:
    # A command that ends without reading breaks the pipe; its exit code tells, so nothing is lost here.
    with contextlib.suppress(OSError, ValueError):
        left = length
        while left and (data := source.read(min(CHUNK, left))):
            target.write(data)
            left -= len(data)
            hit("copy.sending", f"{left} bytes left")
    target.close()


def frames(sources: Mapping[int, int], deadline: float, *, most: int = CHUNK) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) of descriptors, each under its number, until all are closed; `most` bytes at a time.

    Raises:
        TimeoutError: the deadline, a time of the monotonic clock, passed.
    """
    with selectors.DefaultSelector() as selector:
        for descriptor, number in sources.items():
            selector.register(descriptor, selectors.EVENT_READ, number)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(min(left, 3600.0)):
                try:
                    data = os.read(key.fd, most)
                except OSError:  # the other end of a terminal is gone
                    data = b""
                if data:
                    yield key.data, data
                else:
                    selector.unregister(key.fileobj)
