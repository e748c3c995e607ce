"""Undoes the content encoding of a request body, within bounds, so that the guard sees what the server will see."""

from __future__ import annotations

import zlib
from typing import Final

MAX_BODY: Final = 10 * 1024 * 1024
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15


class ContentError(Exception):
    """The body cannot be looked at: HTTP status of the refusal and a stable word."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def decoded(body: bytes, encodings: list[str]) -> bytes:
    """Return the body without its content encoding.

    Raises:
        ContentError: an encoding that is not understood, more than one, a malformed body, or one that grows too large.
    """
    codings = [word.strip().lower() for value in encodings for word in value.split(",")]
    codings = [word for word in codings if word not in {"", "identity"}]
    if not codings or not body:
        return body
    if len(codings) > 1:
        raise ContentError(415, "content_encoding_nested")
    if codings[0] in {"gzip", "x-gzip"}:
        return _members(body)
    if codings[0] == "deflate":
        return _deflate(body)
    raise ContentError(415, "content_encoding_unknown")


def _deflate(body: bytes) -> bytes:
    """Undo `deflate`, which in practice is zlib or raw."""
    looks_like_zlib = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] * 256 + body[1]) % 31 == 0
    text, rest = _inflate(body, _ZLIB if looks_like_zlib else _RAW, MAX_BODY)
    if rest:
        raise ContentError(400, "content_encoding_malformed")
    return text


def _members(body: bytes) -> bytes:
    """Undo gzip: one or more members, one behind the other."""
    text = b""
    rest = body
    while rest:
        member, rest = _inflate(rest, _GZIP, MAX_BODY - len(text))
        text += member
    return text


def _inflate(body: bytes, wbits: int, limit: int) -> tuple[bytes, bytes]:
    machine = zlib.decompressobj(wbits)
    try:
        text = machine.decompress(body, limit + 1)
    except zlib.error:
        raise ContentError(400, "content_encoding_malformed") from None
    if len(text) > limit:
        raise ContentError(413, "body_too_large")
    if not machine.eof:
        raise ContentError(400, "content_encoding_malformed")
    return text, machine.unused_data
