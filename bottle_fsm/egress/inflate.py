"""Undoes one layer of gzip, zlib or raw deflate wherever a receiver would, within bounds.

What is not compressed gives nothing. A stream that breaks off or is damaged gives what came out of it until then. Not
its duty: the content encoding of a request (see `content`), or archives such as zip.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Iterator
from typing import Final

MAX_INFLATED: Final = 10 * 1024 * 1024
"""Bytes that one stream may give."""
MAX_RATIO: Final = 100
"""How many times longer than what was sent the content may be."""
_FREE: Final = 64 * 1024
"""Up to this size the ratio does not matter."""
_PIECE: Final = 16 * 1024
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15
_GZIP_START: Final = b"\x1f\x8b\x08"
_PART: Final = re.compile(rb"\n\r?\n(?=\x1f\x8b\x08|x[\x01\x5e\x9c\xda])")
_NO_STREAM: Final = re.compile(
    rb"(?!H4sI|[CGKOSWae][A-P])"  # gzip or zlib
    rb"(?:[0-9a-fA-F+]{18}"  # digests and such
    rb"|[ACEGIKMOQSUWYacegikmoqsuwy02468+][A-Za-f]"  # raw deflate: a stored block, which lies open anyway
    rb"|[BDFHJLNPRTVXZbdfhjlnprtvxz13579/][g-z0-9+/])"  # raw deflate: a kind of block that there is not
)
"""Base64 at which no stream starts, so that few of all tokens in a text have to be tried."""
_SEPARATORS: Final = (b"+", b"/")
"""What may stand before a base64 text, as a space in a form or in a path, and yet is one of its characters."""
_GZIP_BASE64: Final = b"H4sI"
_HEX_START: Final = re.compile(rb"1[fF]8[bB]08|^78(?:01|5[eE]|9[cC]|[dD][aA])")
_HEAD: Final = 256
_SHORTEST: Final = 18
"""Encoded characters of the shortest stream that holds a secret."""


class ScanLimitError(Exception):
    """The data cannot be looked at within bounds, so nothing is known about it; the text is a stable word."""


def inflated(data: bytes | memoryview) -> bytes:
    """Return what the compressed stream at the start of the data holds, or nothing when none is there.

    Raises:
        ScanLimitError: the content is longer than `MAX_INFLATED`, or than `MAX_RATIO` times what was sent.
    """
    return next(filter(None, (_inflate(data, kind) for kind in _kinds(bytes(data[:3])))), b"")


def inflated_parts(data: bytes) -> Iterator[bytes]:
    """Yield what each gzip or zlib stream behind an empty line holds: a compressed file in a multipart body."""
    view = memoryview(data)
    for match in _PART.finditer(data):
        yield inflated(view[match.end() :])


def inflated_base64(runs: list[bytes]) -> Iterator[bytes]:
    """Yield what these base64 texts hold where they are compressed streams; gzip is known also in the middle of one."""
    for run in runs:
        if _is_stream(run):
            yield inflated(_from_base64(run))
        elif run.startswith(_SEPARATORS) and _is_stream(bare := run.lstrip(_SEPARATORS[0] + _SEPARATORS[1])):
            yield inflated(_from_base64(bare))
        elif (start := run.find(_GZIP_BASE64)) > 0:
            yield inflated(_from_base64(run[start:]))


def inflated_hex(runs: list[bytes]) -> Iterator[bytes]:
    """Yield what these hexadecimal texts hold where a gzip stream is in them, or a zlib stream starts."""
    for run in runs:
        if (match := _HEX_START.search(run)) is not None:
            stream = run[match.start() :]
            yield inflated(binascii.unhexlify(stream[: len(stream) & ~1]))


def _is_stream(run: bytes) -> bool:
    return len(run) >= _SHORTEST and not _NO_STREAM.match(run) and _opens(_from_base64(run[:_HEAD]))


def _from_base64(run: bytes) -> bytes:
    return binascii.a2b_base64(run[: len(run) - (len(run) % 4 == 1)] + b"==")


def _kinds(head: bytes) -> tuple[int, ...]:
    """Return as what kinds of stream data with this head can be read; raw deflate has no mark of its own."""
    if head.startswith(_GZIP_START):
        return (_GZIP,)
    looks_like_zlib = len(head) > 1 and head[0] & 0x0F == zlib.DEFLATED and (head[0] * 256 + head[1]) % 31 == 0
    return (_ZLIB, _RAW) if looks_like_zlib else (_RAW,)


def _opens(head: bytes) -> bool:
    """Tell cheaply whether a stream may start here; what is none fails within a few bytes."""
    for kind in _kinds(head):
        try:
            zlib.decompressobj(kind).decompress(head, _PIECE)
        except zlib.error:
            continue
        return True
    return False


def _inflate(data: bytes | memoryview, wbits: int) -> bytes:
    limit = min(MAX_INFLATED, max(MAX_RATIO * len(data), _FREE))
    content = bytearray()
    machine = zlib.decompressobj(wbits)
    at = 0
    while at < len(data):
        piece = data[at : at + _PIECE]
        at += len(piece)
        try:
            content += machine.decompress(piece, limit + 1 - len(content))
        except zlib.error:
            break
        if len(content) > limit:
            raise ScanLimitError("scan_limit_expansion")
        if machine.eof:
            at -= len(machine.unused_data)
            if wbits != _GZIP or bytes(data[at : at + 3]) != _GZIP_START:
                break
            machine = zlib.decompressobj(wbits)
    return bytes(content)
