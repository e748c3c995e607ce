"""Terminal: this process's standard streams joined to those of a command inside; raw mode, window size, exit.

Not its duty: starting the command and its exit code.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import sys
import termios
import threading
import tty as tty_module
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

STDOUT: Final = 1
STDERR: Final = 2
_CHUNK: Final = 1 << 16
_PASSED_ON: Final = {signal.SIGINT: b"\x03", signal.SIGQUIT: b"\x1c"}
"""With a terminal inside, these are keys; its line discipline makes signals of them again."""


class SessionStream(Protocol):
    """A started command's two directions; reading and writing may happen in different threads."""

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (`STDOUT` or `STDERR`, bytes) until the command's outputs are closed."""
        ...

    def send(self, data: bytes) -> None:
        """Write all of it to the command's input."""
        ...

    def end_input(self) -> None:
        """Close the command's standard input, and keep its output open."""
        ...


class Terminal:
    """Runs one interactive session to its end."""

    def __init__(self, stream: SessionStream, *, tty: bool, resize: Callable[[int, int], None]) -> None:
        self._stream = stream
        self._tty = tty
        self._resize = resize
        self._stop_read, self._stop_write = os.pipe()

    def run(self) -> None:
        """Copy both directions until the command's outputs are closed."""
        sender = threading.Thread(target=self._send_input, daemon=True, name="session-input")
        with _raw(sys.stdin, wanted=self._tty), self._signals():
            sender.start()
            try:
                for number, data in self._stream.frames():
                    _write_all((sys.stderr if number == STDERR else sys.stdout).fileno(), data)
            finally:
                os.write(self._stop_write, b".")
                sender.join(timeout=1.0)
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _send_input(self) -> None:
        source = sys.stdin.fileno()
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(self._stop_read, selectors.EVENT_READ)
            try:
                selector.register(source, selectors.EVENT_READ)
            except PermissionError:  # a plain file is always ready, and epoll refuses it
                self._send_file(source)
                return
            while all(key.fd != self._stop_read for key, _ in selector.select()):
                data = os.read(source, _CHUNK)
                if not data:
                    self._stream.end_input()
                    return
                self._stream.send(data)

    def _send_file(self, source: int) -> None:
        while data := os.read(source, _CHUNK):
            self._stream.send(data)
        self._stream.end_input()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Follow the window's size, and pass keys on that arrive as signals; only the main thread may."""
        if not self._tty or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._pass_on) for number in _PASSED_ON}
        before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: self._tell_size())
        self._tell_size()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, _frame: Any) -> None:
        with contextlib.suppress(OSError):
            self._stream.send(_PASSED_ON[signal.Signals(number)])

    def _tell_size(self) -> None:
        try:
            size = os.get_terminal_size(sys.stdin.fileno())
        except OSError:
            size = shutil.get_terminal_size()
        self._resize(size.lines, size.columns)


@contextlib.contextmanager
def _raw(stream: Any, *, wanted: bool) -> Iterator[None]:
    """Hold the terminal in raw mode, and put it back whatever happens; a pipe is left alone."""
    if not wanted or not stream.isatty():
        yield
        return
    before = termios.tcgetattr(stream.fileno())
    tty_module.setraw(stream.fileno())
    try:
        yield
    finally:
        termios.tcsetattr(stream.fileno(), termios.TCSADRAIN, before)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
