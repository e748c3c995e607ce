"""Where the new lines of a sidecar's log begin: after the last ones that were collected. Pure.

A log is given from somewhere to its end: an engine or supervisor may have thrown its beginning away, and another
sidecar of the same role begins another log. The end that is remembered, as digests of the last lines, tells them apart.
Not its duty: what a line says (`lines`), and where it is kept (`record`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bottle_fsm.model import Json
from bottle_fsm.traffic.lines import Origin, gap, parse

WINDOW: Final = 16
"""How many last lines are remembered: none of them need be unique as long as all together are."""
SLACK_SECONDS: Final = 60.0
"""A log is asked for from so long before the last line that was collected: a clock may have been set back a little."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of a log: the digest of a raw line (empty for a line that we add), and what is to be kept of it."""

    source: str
    digest: str
    moment: float | None
    line: bytes | None


@dataclass(frozen=True, slots=True)
class Window:
    """The end of what was collected of a role.

    Attributes:
        digests: of its last lines. moment: of the last of them that tells one. time: of the last line that was kept.
        closed: it was collected to be taken away: another log that begins afterwards leaves nothing out.
    """

    digests: tuple[str, ...] = ()
    moment: float | None = None
    time: str = ""
    closed: bool = False

    @property
    def since(self) -> float:
        """Return from when on the log is needed; 0 for all of it."""
        return max(0.0, self.moment - SLACK_SECONDS) if self.digests and self.moment is not None else 0.0

    def after(self, entry: Entry, time: str) -> Window:
        """Return the window when one more entry was collected."""
        digests = (*self.digests, entry.digest)[-WINDOW:] if entry.digest else ()
        moment = self.moment if entry.moment is None else entry.moment
        return Window(digests, moment, time or self.time)

    def to_json(self) -> Json:
        """Return the window as a JSON object."""
        return {"digests": list(self.digests), "moment": self.moment, "time": self.time, "closed": self.closed}

    @classmethod
    def from_json(cls, value: Json) -> Window:
        """Read a window back.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        moment = None if value["moment"] is None else float(value["moment"])
        return cls(tuple(map(str, value["digests"])), moment, str(value["time"]), value["closed"] is True)


def complete_lines(log: bytes) -> list[bytes]:
    """Return the lines of a log that have ended; the last one may still be written."""
    return log.split(b"\n")[:-1]


def found_in(window: Window, raw: Sequence[bytes]) -> int | None:
    """Return how many lines of a log are collected already; None when the window's end is not among them."""
    if not window.digests:
        return None
    digests = [digest(line) for line in raw]
    wanted = window.digests
    for end in range(len(digests), 0, -1):
        size = min(end, len(wanted))
        if digests[end - 1] == wanted[-1] and tuple(digests[end - size : end]) == wanted[-size:]:
            return end
    return None


def new_entries(window: Window, raw: Sequence[bytes], origin: Origin) -> list[Entry]:
    """Return what is new in a log, in order; a `gap` line first where lines are missing before it.

    Of an unknown log nothing is taken until it shows an event: only that tells whether its beginning is there.
    """
    known = found_in(window, raw)
    fresh = raw[known or 0 :]
    parsed = [parse(line, origin) for line in fresh]
    entries = [
        Entry(origin.source, digest(line), found.moment, found.line) for line, found in zip(fresh, parsed, strict=True)
    ]
    if known is not None:
        return entries
    first = next((found for found in parsed if found.event), None)
    if first is None:
        return []
    if first.first and (window.closed or not window.digests):  # every sidecar's first event is that it starts
        return entries
    before = next((time_of(found.line) for found in parsed if found.line), "")
    return [Entry(origin.source, "", None, gap(origin, after=window.time, before=before)), *entries]


def digest(raw: bytes) -> str:
    """Return what a line is known by."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def time_of(line: bytes) -> str:
    """Return the time of a line of the record, which always comes first in it."""
    return line[len(b'{"time": "') :].partition(b'"')[0].decode("ascii")
