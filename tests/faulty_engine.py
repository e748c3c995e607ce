"""An engine that misbehaves on demand: a real HTTP server on a Unix socket, for faults that no healthy engine shows."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HANG = b"HANG"
"""Answer nothing and keep the connection open."""
CLOSE = b""
"""Close the connection without an answer, as an engine does that is killed after it took the request."""
GARBAGE = b"\x00\x01 this is not HTTP\r\n\r\n"

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "Arch": "amd64"}


def answer(status: int, value: Any) -> bytes:
    """Return a whole HTTP answer with a JSON body."""
    body = json.dumps(value).encode()
    head = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([f"HTTP/1.1 {status} Word", *head, "", ""]).encode() + body


class FaultyEngine:
    """Answers each path as it was told to; everything else is 404.

    Attributes:
        url: for `DOCKER_HOST`.
        answers: what a path, without version and query, is answered with.
        asked: the request lines seen.
    """

    def __init__(self, socket_path: Path) -> None:
        self.url = f"unix://{socket_path}"
        self.answers: dict[str, bytes] = {"/version": answer(200, VERSION)}
        self.asked: list[str] = []
        self._released = threading.Event()
        engine = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode()
                while self.rfile.readline() not in {b"\r\n", b""}:
                    pass
                if not line:
                    return  # somebody knocked and left
                engine.asked.append(line.strip())
                target = line.split()[1].partition("?")[0]
                path = "/" + target.split("/", 2)[2] if target.startswith("/v1.") else target
                reply = engine.answers.get(path, answer(404, {"message": "page not found"}))
                if reply == HANG:
                    engine._released.wait()
                else:
                    self.wfile.write(reply)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = False
            block_on_close = True

        self._server = Server(str(socket_path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @contextmanager
    def running(self) -> Iterator[FaultyEngine]:
        """Serve for the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
