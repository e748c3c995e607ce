"""Looks for known secrets in what is streamed: nothing that may be the start of one goes out before it is decided.

Seen are only the fixed forms of a secret (see `known_forms`), wherever the chunks are cut; not what `known` sees
besides. Not its duty: which secrets may go where; it is given those that may not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bottle_fsm.egress.known import KnownSecrets


@dataclass(frozen=True, slots=True)
class Release:
    """What may be sent now, and the names of the secrets found; once any is found nothing may be sent any more."""

    data: bytes = field(repr=False)
    found: frozenset[str]


class RollingSearch:
    """One stream in one direction. It holds back as few bytes as possible, at most the longest form of a secret."""

    __slots__ = ("_found", "_held", "_needles")

    def __init__(self, secrets: KnownSecrets) -> None:
        self._needles = secrets.literal
        self._held = b""
        self._found: frozenset[str] = frozenset()

    def feed(self, chunk: bytes) -> Release:
        """Take the next chunk, of any size, and return what may be sent of all that was fed so far."""
        if self._found:
            return Release(b"", self._found)
        data = self._held + chunk
        self._found = self._needles.names(data)
        if self._found:
            self._held = b""
            return Release(b"", self._found)
        ready = len(data) - self._needles.unfinished(data)
        self._held = data[ready:]
        return Release(data[:ready], self._found)

    def finish(self) -> Release:
        """Return the rest: the stream has ended, so no secret can be completed any more."""
        rest, self._held = self._held, b""
        return Release(rest, self._found)
