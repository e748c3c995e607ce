"""The hash chain: each event's hash covers its stored bytes, which hold the hash of the event before. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from bottle_fsm.errors import ChainBrokenError
from bottle_fsm.model import Event

GENESIS: Final = "0" * 64
"""What the first event has for a predecessor."""


def hash_body(body: bytes) -> str:
    """Return the hash of an event's stored bytes."""
    return hashlib.sha256(body).hexdigest()


def check(rows: Iterable[tuple[int, bytes, str]]) -> tuple[int, str]:
    """Walk rows of (sequence, body, hash) in order; return how many there were and the head's hash.

    Raises:
        ChainBrokenError: names the first sequence number that is not as it was written, or not where it belongs.
    """
    count, head = 0, GENESIS
    for sequence, body, stored in rows:
        expected = count + 1
        if sequence != expected:
            raise ChainBrokenError(f"event {expected} is missing", sequence=expected)
        if hash_body(body) != stored:
            raise ChainBrokenError("the stored bytes do not match their hash", sequence=sequence)
        event = _parse(body, stored, sequence)
        if event.prev != head:
            raise ChainBrokenError("does not follow the event before it", sequence=sequence)
        if event.sequence != sequence:
            raise ChainBrokenError("stands at another place than it was written for", sequence=sequence)
        count, head = sequence, stored
    return count, head


def _parse(body: bytes, stored: str, sequence: int) -> Event:
    try:
        return Event.from_body(json.loads(body), stored)
    except (ValueError, TypeError, KeyError) as error:
        raise ChainBrokenError(f"is not an event: {error}", sequence=sequence) from error
