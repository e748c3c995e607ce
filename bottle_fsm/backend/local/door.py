"""The way into a sandbox: a connection to its first process, which starts commands that inherit every wall.

Answers come from inside and are believed no further than their form. Not its duty: timeouts, copies, terminals.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from bottle_fsm.backend.local.streams import Input, feed, frames
from bottle_fsm.backend.terminal import STDERR, STDOUT
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.failpoints import hit
from bottle_fsm.safetext import safe

CONTROL: Final = "control.sock"
ANSWER_BYTES: Final = 4096
_CONNECT_SECONDS: Final = 10.0
_END_SECONDS: Final = 5.0
_END: Final = b"\0"
"""In place of a signal's number: everything that the command started is to end."""


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
        self._tty = wanted.size is not None
        self._files: list[int] = []
        self._input: Input | None = None
        self._answers = b""
        self._connection = _connect(directory, place)
        try:
            self._start(wanted, stdin=stdin)
            hit("exec.started", place)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.close()
            raise BackendError(f"a command could not be started: {error}", place=place) from error
        except BaseException:
            self.close()
            raise

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
        answer = self._first_answer()
        self.pid = int(answer["pid"])

    def _pipes(self, *, stdin: bool) -> list[int]:
        """Make the three pipes, keep our ends, and return the others."""
        if stdin:
            in_read, in_write = os.pipe()
            self._input = Input(in_write)
        else:
            in_read = os.open(os.devnull, os.O_RDONLY)
        self.output, out_write = os.pipe()
        self.error, err_write = os.pipe()
        self._files += [self.output, self.error]
        return [in_read, out_write, err_write]

    def _first_answer(self) -> dict[str, Any]:
        """Take the command's pid, and its terminal where it has one: never more than one descriptor."""
        data, descriptors, _, _ = socket.recv_fds(self._connection, ANSWER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        self._files += descriptors
        if not data:
            raise ValueError("the sandbox hung up")
        line, _, self._answers = data.partition(b"\n")
        answer = json.loads(line)
        if not isinstance(answer, dict) or "error" in answer:
            raise ValueError(safe(str(answer["error"] if isinstance(answer, dict) else answer)[:200]))
        if len(descriptors) != self._tty:
            raise ValueError("no terminal came" if self._tty else "a descriptor came that nobody asked for")
        if self._tty:
            self.output, self.error = descriptors[0], -1
            self._input = Input(os.dup(self.output))
        return answer

    # -- while it runs -----------------------------------------------------------------------------------------------

    def feed(self, source: IO[bytes], length: int) -> None:
        """Send so many bytes to the command's input in the background, and then its end."""
        if self._input is not None:
            feed(self._input, source, length)

    def send(self, data: bytes) -> None:
        """Write all of it to the command's input; where it has none, nowhere."""
        if self._input is not None:
            self._input.write(data)

    def end_input(self) -> None:
        """Close the command's input; a terminal gets its end-of-file key instead."""
        if self._tty:
            with contextlib.suppress(OSError):
                self.send(b"\x04")
        elif self._input is not None:
            self._input.close()

    def frames(self, deadline: float = float("inf")) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the outputs are closed.

        Raises:
            TimeoutError: the deadline, a time of the monotonic clock, passed.
        """
        sources = {self.output: STDOUT} | ({} if self._tty else {self.error: STDERR})
        return frames(sources, deadline)

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
        try:
            while b"\n" not in self._answers and len(self._answers) <= ANSWER_BYTES:
                self._connection.settimeout(max(0.01, deadline - time.monotonic()))
                data = self._connection.recv(ANSWER_BYTES)
                if not data:
                    raise DriftError("the sandbox ended before its command did", place=self._place)
                self._answers += data
            return int(json.loads(self._answers.partition(b"\n")[0])["exit"]) & 0xFF
        except TimeoutError:
            raise BackendError("a command closed its outputs but did not end", place=self._place) from None
        except ConnectionError as error:
            raise DriftError("the sandbox ended before its command did", place=self._place) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BackendError("the sandbox gave no exit code", place=self._place) from error

    def end(self, seconds: float = _END_SECONDS) -> None:
        """End the command with all that it started, as far as that can be known, and wait until it is done."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            self._connection.settimeout(seconds)
            self._connection.sendall(_END)
            self._connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left)
                if not self._connection.recv(ANSWER_BYTES):
                    break
        self.close()

    def close(self) -> None:
        """Let go. A command that still runs is ended inside; what one that ended left running stays."""
        self._connection.close()
        if self._input is not None:
            self._input.close()
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
