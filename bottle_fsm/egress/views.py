"""The copies of data in which something encoded lies open: every encoding undone, up to three deep in any mix.

Covered, each level being any of them: base64 and base32 at every offset, hexadecimal, quoted-printable, escapes of
URLs, JSON, YAML and HTML, form and multipart fields (their values stand in the text as they are). One layer of
compression may come on top: at the start of the data, of a file in a multipart body, of a base64 or hexadecimal text.
UTF-16 needs no copy of its own: whoever searches leaves out NULs.

What is deeper is not undone; that is no error, because ordinary data can always be decoded once more. All other bounds
are errors, never silence. Not its duty: what is looked for in the copies (see `known`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bottle_fsm.egress import decoders
from bottle_fsm.egress.inflate import ScanLimitError, inflated, inflated_base64, inflated_hex, inflated_parts
from bottle_fsm.places import MIN_SECRET_BYTES

MAX_SCANNED: Final = 10 * 1024 * 1024
"""Bytes that are looked at in one go."""
MAX_DEPTH: Final = 3
"""Encodings that are undone, one inside the other; compression is not counted."""
MAX_COPIED: Final = 24 * MAX_SCANNED
"""Bytes of all copies together, one after the other; ordinary data needs at most a third of them."""
_ATTEMPT: Final = 1024
"""What looking for one compressed stream costs at least, as bytes of a copy."""
_SMALL: Final = 64 * 1024
"""Contents of streams up to this size are looked at together."""
_BREAK: Final = b"\x01\n\n"
"""Stands between two contents; no run of characters goes on behind it."""


def decoded_views(data: bytes, *, max_copied: int = MAX_COPIED) -> Iterator[bytes]:
    """Yield the data, then every decoded copy; the same run is not decoded twice at the same or a greater depth.

    Raises:
        ScanLimitError: the data is longer than `MAX_SCANNED`, its copies together than `max_copied`, or compressed
            content than its bounds in `inflate`. What was yielded before is then not everything.
    """
    if len(data) > MAX_SCANNED:
        raise ScanLimitError("scan_limit_size")
    yield from _Walk(max_copied).packed(data)


class _Walk:
    """One walk through the copies of one data: what it may still copy, and which runs it has decoded how deep."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._depths: dict[int, int] = {}

    def packed(self, data: bytes) -> Iterator[bytes]:
        """Yield the views of data that may be, or hold, a compressed stream."""
        yield from self._views(data, 0, unpack=True)
        yield from self._unpacked([inflated(data)], 0)
        yield from self._unpacked(inflated_parts(data), 0)

    def _views(self, data: bytes, depth: int, *, unpack: bool) -> Iterator[bytes]:
        yield data
        text = decoders.readable(data) if depth < MAX_DEPTH else b""
        if not text:
            return
        runs = decoders.base64_runs(text)
        narrow = self._fresh(decoders.base32_runs(runs), depth, ("base32", unpack))
        runs = self._fresh(runs, depth, ("base64", unpack))
        yield from self._each(decoders.from_base64(runs), depth, unpack=unpack)
        if unpack:
            yield from self._unpacked(inflated_base64(runs), depth + 1)
        yield from self._each(decoders.from_base32(narrow), depth, unpack=unpack)
        runs = self._fresh(decoders.hex_runs(text), depth, ("hex", unpack))
        yield from self._each(decoders.from_hex(runs), depth, unpack=unpack)
        if unpack:
            yield from self._unpacked(inflated_hex(runs), depth + 1)
        del runs, narrow
        for undo in (decoders.unescape, decoders.from_quoted_printable):
            yield from self._each(filter(None, (undo(text),)), depth, unpack=unpack)

    def _each(self, copies: Iterable[bytes], depth: int, *, unpack: bool) -> Iterator[bytes]:
        for copy in copies:
            self._spend(len(copy))
            yield from self._views(copy, depth + 1, unpack=unpack)

    def _unpacked(self, contents: Iterable[bytes], depth: int) -> Iterator[bytes]:
        small = bytearray()
        for content in contents:
            self._spend(_ATTEMPT + len(content))
            if len(content) > _SMALL:
                yield from self._views(content, depth, unpack=False)
            elif len(content) >= MIN_SECRET_BYTES:
                small += content + _BREAK
        if small:
            yield from self._views(bytes(small), depth, unpack=False)

    def _fresh(self, runs: list[bytes], depth: int, kind: tuple[str, bool]) -> list[bytes]:
        """Return the runs that were not decoded before, at least not with as many levels left below them."""
        fresh = []
        for run in runs:
            key = hash((kind, run))
            if self._depths.get(key, MAX_DEPTH) > depth:
                self._depths[key] = depth
                fresh.append(run)
        return fresh

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ScanLimitError("scan_limit_copies")
