"""The two-way stream of an exec, over whatever docker-py is connected by: Unix socket (ssh behind it), TCP, TLS.

Its duty: bytes in, frames out, half-close, and no byte lost that came along with the answer's header.
Not its duty: what is run, and for how long.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Final

from bottle_fsm.backend.terminal import STDOUT
from bottle_fsm.failpoints import hit

if TYPE_CHECKING:
    from docker import APIClient

CHUNK: Final = 1 << 16
_FRAME: Final = struct.Struct(">BxxxL")


class ExecStream:
    """The connection of one started exec. Reading and writing may happen in different threads."""

    def __init__(self, api: APIClient, exec_id: str, *, tty: bool) -> None:
        # docker-py's own socket reads past the buffer that may hold the first frames already, so its parts are used.
        client: Any = api
        self._response = client._post_json(  # noqa: SLF001 - see above
            client._url("/exec/{0}/start", exec_id),  # noqa: SLF001 - see above
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            data={"Tty": tty, "Detach": False},
            stream=True,
        )
        client._raise_for_status(self._response)  # noqa: SLF001 - see above
        self._reader: Any = self._response.raw._fp.fp  # noqa: SLF001 - see above
        self._socket: socket.socket = self._reader.raw._sock  # noqa: SLF001 - see above
        self._socket.settimeout(None)  # a silent command is no dead engine; callers bound the whole
        self._framed = not tty

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the command's outputs are closed."""
        return self._frames() if self._framed else ((STDOUT, data) for data in iter(self._read_some, b""))

    def send(self, data: bytes) -> None:
        """Write all of it."""
        self._socket.sendall(data)

    def end_input(self) -> None:
        """Close the command's standard input, and keep its output open."""
        with contextlib.suppress(OSError):
            # The plain socket's call, for TLS as well: SSLSocket.shutdown forgets the session, and with it the output.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def close(self) -> None:
        """Drop the connection; the command inside is not ended by that."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        with contextlib.suppress(OSError):
            self._response.close()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer = b""
        while data := self._read_some():
            buffer += data
            while len(buffer) >= _FRAME.size:
                stream, length = _FRAME.unpack_from(buffer)
                end = _FRAME.size + length
                if len(buffer) < end:
                    break
                yield stream, buffer[_FRAME.size : end]
                buffer = buffer[end:]

    def _read_some(self) -> bytes:
        return bytes(self._reader.read1(CHUNK))


class Pump:
    """Threads that move a stream's two directions, so that the caller can wait with a time limit on every transport."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream
        self._queue: SimpleQueue[tuple[int, bytes] | BaseException | None] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True, name="exec-output").start()

    def feed(self, source: IO[bytes], *, length: int) -> None:
        """Send so many bytes of `source`, in the background."""
        threading.Thread(target=self._write, args=(source, length), daemon=True, name="exec-input").start()

    def next(self, timeout: float) -> tuple[int, bytes] | None:
        """Return the next frame, None at the end.

        Raises:
            queue.Empty: nothing came in `timeout` seconds.
            OSError: the connection broke.
        """
        item = self._queue.get(timeout=max(timeout, 0.001))
        if isinstance(item, BaseException):
            raise item
        return item

    def _read(self) -> None:
        self._guard(self._read_all)

    def _write(self, source: IO[bytes], length: int) -> None:
        # A command that ends without reading breaks the pipe; its exit code tells, so nothing is lost here.
        with contextlib.suppress(OSError, ValueError):
            left = length
            while left and (data := source.read(min(CHUNK, left))):
                self._stream.send(data)
                left -= len(data)
                hit("copy.sending", f"{left} bytes left")
            self._stream.end_input()

    def _read_all(self) -> None:
        for frame in self._stream.frames():
            self._queue.put(frame)
        self._queue.put(None)

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            self._queue.put(error)
