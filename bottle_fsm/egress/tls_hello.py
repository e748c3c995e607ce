"""Reads the server name out of the first bytes of a TLS connection. Pure; anything unexpected is a ValueError.

Not its duty: TLS itself; the guard only looks which name a tunnel asks for.
"""

from __future__ import annotations

from typing import Final

_RECORD_HEADER: Final = 5
_CLIENT_HELLO: Final = 1
_HELLO_HEADER: Final = 4
_SERVER_NAME: Final = 0
_FIXED_HELLO: Final = 34
_MAX_RECORD: Final = 16384 + 256
MAX_HELLO: Final = 65536
"""More than any real ClientHello; what is longer is refused, so that memory stays bounded."""


class _Bytes:
    """A cursor over bytes that never reads past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise ValueError("the ClientHello is cut off inside")
        self._at += count
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size_bytes: int) -> _Bytes:
        return _Bytes(self.take(self.number(size_bytes)))

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]


def client_hello_sni(data: bytes) -> str | None:
    """Return the server name of a ClientHello; None while more bytes are needed to tell.

    Raises:
        ValueError: the bytes are not a ClientHello, or one without exactly one server name.
    """
    hello = _handshake(data)
    return None if hello is None else _server_name(hello)


def _handshake(data: bytes) -> bytes | None:
    """Collect the ClientHello from one or more TLS records; None while it is not complete."""
    message = b""
    rest = data
    while True:
        if rest[:1] not in {b"", b"\x16"} or rest[1:2] not in {b"", b"\x03"}:
            raise ValueError("not a TLS handshake")
        if len(rest) < _RECORD_HEADER:
            return None
        length = int.from_bytes(rest[3:5], "big")
        if not 0 < length <= _MAX_RECORD:
            raise ValueError("not a TLS record")
        message += rest[_RECORD_HEADER : _RECORD_HEADER + length]
        if message and message[0] != _CLIENT_HELLO:
            raise ValueError("not a ClientHello")
        wanted = _HELLO_HEADER + int.from_bytes(message[1:_HELLO_HEADER], "big")
        if len(message) >= _HELLO_HEADER and wanted > MAX_HELLO:
            raise ValueError("the ClientHello is too long")
        if len(message) >= _HELLO_HEADER and len(message) >= wanted:
            return message[_HELLO_HEADER:wanted]
        if len(rest) < _RECORD_HEADER + length:
            return None
        rest = rest[_RECORD_HEADER + length :]


def _server_name(hello: bytes) -> str:
    cursor = _Bytes(hello)
    cursor.take(_FIXED_HELLO)
    cursor.block(1)
    cursor.block(2)
    cursor.block(1)
    names: list[bytes] = []
    extensions = cursor.block(2)
    while extensions.left:
        kind = extensions.number(2)
        body = extensions.block(2)
        if kind == _SERVER_NAME:
            names += _host_names(body)
    if len(names) != 1:
        raise ValueError("a ClientHello names exactly one server")
    return names[0].decode("ascii")


def _host_names(body: _Bytes) -> list[bytes]:
    entries = body.block(2)
    names = []
    while entries.left:
        kind = entries.number(1)
        name = entries.block(2)
        if kind == 0:
            names.append(name.rest)
    return names
