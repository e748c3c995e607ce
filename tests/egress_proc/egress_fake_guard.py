"""Stands where the guard stands, answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

from egress_proc.egress_sidecars import GUARD_PORT, SCAN_PORT, Stack

CUT = b"<cut>"


class FakeGuard:
    """One such guard."""

    def __init__(self, host: str, scan: Callable[[dict[str, object]], bytes | None], connect: bytes = b"") -> None:
        self.scans: list[dict[str, object]] = []
        self.connects = 0
        self._scan = scan
        self._connect = connect
        self._clients: list[socket.socket] = []
        self._listeners = [socket.create_server((host, port)) for port in (SCAN_PORT, GUARD_PORT)]
        for listener, serve in zip(self._listeners, (self._serve_scan, self._serve_connect), strict=True):
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()

    def close(self) -> None:
        for each in (*self._listeners, *self._clients):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._safely, args=(serve, client), daemon=True).start()

    def _safely(self, serve: Callable[[socket.socket], None], client: socket.socket) -> None:
        client.settimeout(20)
        self._clients.append(client)
        with client, contextlib.suppress(OSError):
            serve(client)

    def _serve_scan(self, client: socket.socket) -> None:
        with client.makefile("rb") as stream:
            while stream.readline():
                length = 0
                while header := stream.readline().strip():
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                question = json.loads(stream.read(length))
                self.scans.append(question)
                answer = self._scan(question)
                if answer is None:
                    return
                client.sendall(answer)
                if answer.endswith(CUT):
                    return

    def _serve_connect(self, client: socket.socket) -> None:
        data = client.recv(65536)
        if data.startswith(b"CONNECT"):
            self.connects += 1
        client.sendall(self._connect)


def http_answer(value: object, status: str = "200 OK") -> bytes:
    body = json.dumps(value).encode() if not isinstance(value, bytes) else value
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def verdict_on(question: dict[str, object], **changes: object) -> dict[str, object]:
    context = question["context"]
    assert isinstance(context, dict)
    value = {"status": "completed", "decision": "allow", "kind": question["kind"], "findings": []}
    return {**value, "request_id": context["request_id"], **changes}


@contextlib.contextmanager
def guard_that(
    alone: Stack, scan: Callable[[dict[str, object]], bytes | None], connect: bytes = b""
) -> Iterator[FakeGuard]:
    guard = FakeGuard(alone.guard_host, scan, connect)
    try:
        yield guard
    finally:
        guard.close()
