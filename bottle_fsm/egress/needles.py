"""Looks for many byte strings at once, fast enough to look into every request.

Bytes are read as words of eight at every eighth place. A needle of 15 bytes or more covers one such word whole wherever
it stands, and that word is one of eight which are known beforehand. So one pass over the data finds every needle that
may be there, however many needles there are. Not its duty: what the needles are (see `known_forms`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

_WORD: Final = 8
_START: Final = 8
_SHORTEST_LONG: Final = 2 * _WORD - 1
"""From this length on a needle holds an aligned word wherever it starts."""


class NeedleIndex:
    """Needles, each with the names that it stands for."""

    __slots__ = ("_by_start", "_by_word", "_longest", "_names", "_short", "_starts", "_words")

    def __init__(self, needles: Mapping[bytes, frozenset[str]]) -> None:
        """Prepare the search.

        Args:
            needles: what to look for, none of it empty, and the names that are found with it.
        """
        self._names = dict(needles)
        self._short = tuple(needle for needle in needles if len(needle) < _SHORTEST_LONG)
        by_word: dict[int, set[bytes]] = {}
        for needle in needles:
            if len(needle) >= _SHORTEST_LONG:
                for at in range(_WORD):
                    word = int.from_bytes(needle[at : at + _WORD], sys.byteorder)
                    by_word.setdefault(word, set()).add(needle)
        self._by_word = {word: frozenset(those) for word, those in by_word.items()}
        self._words = frozenset(by_word)
        self._longest = max(map(len, needles), default=1)
        by_start: dict[bytes, list[bytes]] = {}
        for needle in needles:
            by_start.setdefault(needle[:_START], []).append(needle)
        self._by_start = by_start
        self._starts = frozenset(needle[:length] for needle in needles for length in range(1, _START))

    def names(self, data: bytes) -> frozenset[str]:
        """Return the names of all needles that stand in the data."""
        return frozenset(name for needle in self._present(data) for name in self._names[needle])

    def unfinished(self, data: bytes) -> int:
        """Return how many of the last bytes of the data may be the start of a needle that goes on behind it."""
        tail = data[max(len(data) - self._longest + 1, 0) :]
        first = len(tail)
        for start, needles in self._by_start.items():
            at = tail.find(start)
            while 0 <= at < first and not any(needle.startswith(tail[at:]) for needle in needles):
                at = tail.find(start, at + 1)
            first = min(first, at) if at >= 0 else first
        for length in range(min(len(tail), _START - 1), 0, -1):
            if tail[-length:] in self._starts:
                first = min(first, len(tail) - length)
        return len(tail) - first

    def _present(self, data: bytes) -> set[bytes]:
        present = {needle for needle in self._short if needle in data}
        if self._words:
            whole = len(data) - len(data) % _WORD
            words = self._words.intersection(memoryview(data)[:whole].cast("Q"))
            likely = frozenset[bytes]().union(*(self._by_word[word] for word in words))
            present |= {needle for needle in likely if needle in data}
        return present
