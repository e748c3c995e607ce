"""Export of the journal as lines that can be checked without us: the stored bytes of each event, and their hash.

A line is `{"sequence":N,"hash":"…","body":…}`, where the bytes between `"body":` and the last brace are exactly the
stored ones: `sha256` over them is the hash, and each body holds the hash of the one before as `prev`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from bottle_fsm.errors import ChainBrokenError
from bottle_fsm.store.raw import Row

_LINE: Final = re.compile(rb'\{"sequence":([0-9]{1,18}),"hash":"([0-9a-f]{64})","body":(\{.*\})\}', re.DOTALL)


def to_lines(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield a line for each row, with its line end."""
    for sequence, body, stored in rows:
        yield b'{"sequence":%d,"hash":"%s","body":%s}\n' % (sequence, stored.encode(), body)


def from_lines(lines: Iterable[bytes]) -> Iterator[Row]:
    """Read rows back.

    Raises:
        ChainBrokenError: a line is none of ours; the sequence that is named is the one that it should hold.
    """
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line.removesuffix(b"\n"))
        if match is None:
            raise ChainBrokenError(f"line {number} is not an exported event", sequence=number)
        yield int(match[1]), match[3], match[2].decode()
