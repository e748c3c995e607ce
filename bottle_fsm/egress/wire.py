"""A little HTTP/1.1 over asyncio streams, for our own sidecars among themselves: bounded, strict, both directions.

Not its duty: the agent's traffic, which mitmproxy parses.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

MAX_HEAD: Final = 16 * 1024
MAX_BODY: Final = 8 * 1024 * 1024
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class WireError(Exception):
    """The other side did not speak the HTTP that we speak; `status` is what a server answers to it."""

    def __init__(self, problem: str, status: int = 400) -> None:
        super().__init__(problem)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """Start line and headers of a message; header names in lower case, each with all of its values."""

    start: tuple[str, str, str]
    headers: dict[str, list[str]] = field(repr=False)

    def one(self, name: str) -> str | None:
        """Return the value of a header, or None without it.

        Raises:
            WireError: it stands there more than once.
        """
        values = self.headers.get(name, [])
        if len(values) > 1:
            raise WireError(f"header {name} is repeated")
        return values[0] if values else None

    def content_length(self, limit: int) -> int:
        """Return the announced length of the body.

        Raises:
            WireError: it is malformed or above the limit.
        """
        text = self.one("content-length") or "0"
        max_digits = 12
        if not (text.isascii() and text.isdigit() and len(text) <= max_digits):
            raise WireError("content-length is malformed")
        if int(text) > limit:
            raise WireError("the body is too large", 413)
        return int(text)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a message head; None when the other side closed before its first byte.

    Raises:
        WireError: the head is cut off, malformed or longer than the stream's limit.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the head is cut off") from None
        return None
    except asyncio.LimitOverrunError:
        raise WireError("the head is too long") from None
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Parse the bytes of a message head, which end with an empty line.

    Raises:
        WireError: it is malformed.
    """
    start, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = start.split(" ", 2)
    if len(parts) < 2 or not all(parts[:2]):  # noqa: PLR2004 - method and target, or version and status
        raise WireError("the start line is malformed")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise WireError("a header is malformed")
        headers.setdefault(name.lower(), []).append(value.strip())
    return Head(start=(parts[0], parts[1], parts[2] if len(parts) > 2 else ""), headers=headers)  # noqa: PLR2004 - a reason may be absent


async def read_body(reader: asyncio.StreamReader, head: Head, *, limit: int = MAX_BODY) -> bytes:
    """Read the body that a head announces, by length or in chunks.

    Raises:
        WireError: it is malformed, cut off or larger than the limit.
    """
    try:
        coding = head.one("transfer-encoding")
        if coding is None:
            return await reader.readexactly(head.content_length(limit))
        if coding.lower() != "chunked" or head.one("content-length") is not None:
            raise WireError("transfer-encoding is not supported")
        return await _read_chunks(reader, limit)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise WireError("the body is cut off") from None


async def _read_chunks(reader: asyncio.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise WireError("a chunk is malformed") from None
        if size < 0 or len(body) + size > limit:
            raise WireError("the body is too large", 413)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise WireError("a chunk is malformed")
        if size == 0:
            return bytes(body)


def answer(status: int, value: dict[str, Any], *, close: bool = True, headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a JSON answer."""
    body = json.dumps(value, ensure_ascii=True).encode()
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Connection: {'close' if close else 'keep-alive'}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def close_writer(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait for it; one that is broken already is as good as closed."""
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return
