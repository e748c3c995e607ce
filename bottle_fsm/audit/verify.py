"""Verification: is every event as it was written, where it was written, and do the records follow from them?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bottle_fsm.audit.export import from_lines
from bottle_fsm.errors import UsageError
from bottle_fsm.store import chain
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.raw import raw_rows


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in order: how many events, and the hash of the last one.

    Whoever keeps the head elsewhere can tell later that nothing was cut off the end.
    """

    events: int
    head: str


def verify_chain(directory: Path) -> Verified:
    """Check the chain of a state directory's journal, byte by byte, before anything interprets it.

    Raises:
        ChainBrokenError: names the first event that is not as it was written.
        StoreError: the journal cannot be read.
    """
    return Verified(*chain.check(raw_rows(directory)))


def verify_records(journal: Journal) -> Verified:
    """Check the chain, and that every bottle's record is what its events add up to.

    Raises:
        ChainBrokenError, StoreError: as `Journal.verify`.
    """
    return Verified(*journal.verify())


def verify_file(path: Path) -> Verified:
    """Check an exported file.

    Raises:
        ChainBrokenError: names the first event that is not as it was written.
        UsageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return Verified(*chain.check(from_lines(file)))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error
