"""Questions to the journal: which events, by bottle, launch and kind. Reads without a lock and without an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bottle_fsm.model import Event
from bottle_fsm.store import kinds
from bottle_fsm.store.journal import Journal

KINDS = tuple(sorted(v for k, v in vars(kinds).items() if k.isupper() and isinstance(v, str)))
"""Every kind of event, for whoever asks for one."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; an empty field takes all.

    `launch` is the beginning of a launch's id, as people paste it.
    """

    bottle: str = ""
    launch: str = ""
    kind: str = ""


def select(journal: Journal, wanted: Filter) -> Iterator[Event]:
    """Yield the events that are wanted, in order."""
    for event in journal.events(bottle=wanted.bottle, kind=wanted.kind):
        if event.launch.startswith(wanted.launch):
            yield event
