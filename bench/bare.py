"""The peer of the launch benchmark: the same runner, backend and engine calls without journal, lock and looks.

Events are folded in memory, nothing is written, nobody is locked out, and a look at the world returns what this process
itself made. This is what a launcher without durability would do, no more and no less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any
from unittest import mock

from bottle_fsm.backend.docker import backend, drift, joining, work
from bottle_fsm.backend.docker.observe import observe
from bottle_fsm.model import Event, Json, Launch, Observed
from bottle_fsm.runner import session
from bottle_fsm.store.draft import Draft
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.lock import BottleLock
from bottle_fsm.store.record import BottleRecord, advance


class Forgetful(Journal):
    """A journal that writes nothing."""

    def __init__(self) -> None:
        self.events_seen = 0
        self._bottles: dict[str, BottleRecord] = {}

    def append(self, draft: Draft) -> Event:
        """Fold an event in memory."""
        self.events_seen += 1
        fields: Json = {**asdict(draft), "resources": tuple(r.to_json() for r in draft.resources)}
        known = self._bottles.get(draft.bottle) if fields.pop("inherit") else None
        if known is not None:
            fields |= {n: fields[n] or getattr(known, n) for n in ("launch", "machine", "spec")}
        event = Event(
            sequence=self.events_seen, time="", monotonic=0.0, boot="", run="", actor={}, prev="", hash="", **fields
        )
        if event.bottle:
            self._bottles[event.bottle] = advance(self._bottles.get(event.bottle), event)
        return event

    def take(self, bottle: str, *, command: str) -> int:
        """Take no epoch."""
        del bottle, command
        return 1

    def ensure_machine(self, version: str, definition: Json) -> None:
        """Record nothing."""

    def check_epoch(self, bottle: str, epoch: int) -> None:
        """Compare nothing."""

    def record(self, bottle: str) -> BottleRecord | None:
        """Return what was folded."""
        return self._bottles.get(bottle)

    def acted(self, bottle: str) -> set[tuple[str, int]]:
        """Return the one owner there is."""
        return {(self._bottles[bottle].launch, 1)}


def _from_memory(_engine: Any, launch: Launch, kind: str = "") -> Observed:
    return Observed(tuple(r for r in launch.recorded if kind in {"", r.kind}))


@contextmanager
def bare() -> Iterator[None]:
    """Take locks and looks away for as long as the body runs."""
    with ExitStack() as stack:
        for module in (backend, drift, work):
            stack.enter_context(mock.patch.object(module, "observe", _from_memory))
        for module in (backend, joining):
            stack.enter_context(mock.patch.object(module, "check_members", return_value=None))
        stack.enter_context(mock.patch.object(session, "BottleLock", mock.MagicMock()))
        yield


class Spent:
    """Adds up the wall time inside chosen calls of one thread; nested calls count once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._depth = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure while the body runs."""
        self.seconds = {}
        with ExitStack() as stack:
            for name in ("append", "take", "ensure_machine", "check_epoch", "record", "acted"):
                stack.enter_context(mock.patch.object(Journal, name, self._timed("journal", getattr(Journal, name))))
            for name in ("__enter__", "__exit__"):
                stack.enter_context(mock.patch.object(BottleLock, name, self._timed("lock", getattr(BottleLock, name))))
            for module in (backend, drift, work):
                stack.enter_context(mock.patch.object(module, "observe", self._timed("observe", observe)))
            yield

    def _timed(self, name: str, call: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._depth += 1
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

        return timed
