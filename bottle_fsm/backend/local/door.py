"""The way into a sandbox: a connection to its first process, which starts commands that inherit every wall.

Answers come from inside and are believed no further than their form. Not its duty: timeouts, copies, terminals.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from bottle_fsm.backend.terminal import STDERR, STDOUT
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.failpoints import hit

CONTROL: Final = "control.sock"
CHUNK: Final = 1 << 16
ANSWER_BYTES: Final = 4096
_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command: what, with which further variables, where; with a terminal of so many rows and columns, or none."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = "/"
    size: tuple[int, int] | None = None


class Session:
    """One started command. Closing it ends the command, if it still runs."""

    def __init__(self, directory: Path, wanted: Wanted, *, place: str, stdin: bool = True) -> None:
        """Start the command.

        Raises:
            DriftError: nobody answers in there. BackendError: the command was refused.
        """
        self._place = place
        self._files: list[int] = []
        self._connection = _connect(directory, place)
        self._answers = b""
        try:
            self._start(wanted, stdin=stdin)
        except (OSError, ValueError, KeyError) as error:
            self.close()
            raise BackendError(f"a command could not be started: {error}", place=place) from error
        except BaseException:
            self.close()
            raise
        hit("exec.started", place)

    def _start(self, wanted: Wanted, *, stdin: bool) -> None:
        rows, columns = wanted.size or (0, 0)
        request = {
            "argv": list(wanted.argv),
            "env": dict(wanted.env),
            "cwd": wanted.cwd,
            "tty": wanted.size is not None,
            "rows": rows,
            "columns": columns,
        }
        data = json.dumps(request).encode()
        given: list[int] = []
        if wanted.size is None:
            given = self._pipes(stdin=stdin)
        try:
            first = struct.pack(">I", len(data))
            if given:
                socket.send_fds(self._connection, [first], given)
            else:
                self._connection.sendall(first)
            self._connection.sendall(data)
        finally:
            for descriptor in given:
                os.close(descriptor)
        answer, descriptors = self._first_answer()
        if wanted.size is not None:
            if len(descriptors) != 1:
                raise ValueError("no terminal came")
            self._files.append(descriptors[0])
            self.input = self.output = descriptors[0]
            self.error = -1
        self.pid = int(answer["pid"])

    def _pipes(self, *, stdin: bool) -> list[int]:
        """Make the three pipes, keep our ends, and return the others."""
        if stdin:
            in_read, self.input = os.pipe()
            self._files.append(self.input)
        else:
            in_read, self.input = os.open(os.devnull, os.O_RDONLY), -1
        self.output, out_write = os.pipe()
        self.error, err_write = os.pipe()
        self._files += [self.output, self.error]
        return [in_read, out_write, err_write]

    def _first_answer(self) -> tuple[dict[str, Any], list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self._connection, ANSWER_BYTES, 1)
        self._files += descriptors if len(descriptors) > 1 else []
        line, _, self._answers = data.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(str(answer["error"])[:200])
        return answer, descriptors

    # -- while it runs -----------------------------------------------------------------------------------------------

    def feed(self, source: IO[bytes], length: int) -> None:
        """Send so many bytes to the command's input in the background, and then its end."""
        threading.Thread(target=self._feed, args=(source, length), daemon=True, name="exec-input").start()

    def _feed(self, source: IO[bytes], length: int) -> None:
        # A command that ends without reading breaks the pipe; its exit code tells, so nothing is lost here.
        with contextlib.suppress(OSError, ValueError):
            left = length
            while left and (data := source.read(min(CHUNK, left))):
                self.send(data)
                left -= len(data)
                hit("copy.sending", f"{left} bytes left")
        self.end_input()

    def send(self, data: bytes) -> None:
        """Write all of it to the command's input."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.input, view) :]

    def end_input(self) -> None:
        """Close the command's input; a terminal gets its end-of-file key instead."""
        if self.input == self.output:
            with contextlib.suppress(OSError):
                os.write(self.input, b"\x04")
        elif self.input in self._files:
            self._files.remove(self.input)
            os.close(self.input)

    def frames(self, deadline: float = float("inf")) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the outputs are closed.

        Raises:
            TimeoutError: the deadline, a time of the monotonic clock, passed.
        """
        with selectors.DefaultSelector() as selector:
            for descriptor, number in ((self.output, STDOUT), (self.error, STDERR)):
                if descriptor >= 0:
                    selector.register(descriptor, selectors.EVENT_READ, number)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for key, _ in selector.select(min(left, 3600.0)):
                    try:
                        data = os.read(key.fd, CHUNK)
                    except OSError:  # the other end of a terminal is gone
                        data = b""
                    if data:
                        yield key.data, data
                    else:
                        selector.unregister(key.fileobj)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command's terminal how large it is now."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.output, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        with contextlib.suppress(OSError):
            self._connection.sendall(bytes([number]))

    def exit_code(self, seconds: float) -> int:
        """Return the exit code; 128 and the signal's number where one ended it.

        Raises:
            BackendError: it is not told in time.
        """
        deadline = time.monotonic() + seconds
        while b"\n" not in self._answers:
            self._connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._connection.recv(ANSWER_BYTES)
            except TimeoutError:
                data = b""
            if not data or len(self._answers) > ANSWER_BYTES:
                raise BackendError("a command closed its outputs but did not end", place=self._place)
            self._answers += data
        try:
            return int(json.loads(self._answers.partition(b"\n")[0])["exit"]) & 0xFF
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError("the sandbox gave no exit code", place=self._place) from error

    def close(self) -> None:
        """Let go; what still runs is ended inside."""
        self._connection.close()
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []


def _connect(directory: Path, place: str) -> socket.socket:
    """Connect to the control socket, however long its path is."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_SECONDS)
    try:
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{handle}/{CONTROL}")
        finally:
            os.close(handle)
    except OSError as error:
        connection.close()
        raise DriftError(f"nobody answers inside: {error.strerror}", place=place) from error
    return connection
