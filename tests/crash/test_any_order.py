"""Verbs, kills and a moving world in any order: hypothesis looks for one that breaks a promise.

`HYPOTHESIS_PROFILE=crash` looks much longer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bottle_fsm.errors import BackendError, LockHeldError
from bottle_fsm.runner.prove import prove
from bottle_fsm.store import journal as journal_module
from bottle_fsm.store.lock import BottleLock
from crash_cases import BOTTLE, ENDED_WELL, MANIFEST, ROLES, Place
from crash_judge import judge, strays
from crash_place import untraced
from crash_sweep import KILLED, MEMORY

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "crash"
MANIFESTS = {
    "as first": MANIFEST,
    "another policy": MANIFEST.replace("example.org]", "example.net]"),
    "another image": MANIFEST.replace("some-image", "other-image"),
    "another prompt": MANIFEST.replace("Say hello", "Say goodbye"),
}
VERBS = st.sampled_from(["apply", "resume", "destroy"])
ONES = st.sampled_from(ROLES)


class _Clock(datetime):
    """A wall clock that somebody sets."""

    offset = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + cls.offset


class AnyOrder(RuleBasedStateMachine):
    """One bottle, everything that can happen to it, and the judge after each verb that ended."""

    def __init__(self) -> None:
        super().__init__()
        self._top = tempfile.mkdtemp(prefix="bottle-any-", dir=MEMORY if MEMORY.is_dir() else None)
        self.place = Place(Path(self._top) / "case")
        self._patch = pytest.MonkeyPatch()
        self._untraced = untraced()
        self._untraced.__enter__()

    def teardown(self) -> None:
        self._patch.undo()
        _Clock.offset = timedelta()
        shutil.rmtree(self._top)
        self._untraced.__exit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        self.place.begin()
        self._patch.setattr(journal_module, "datetime", _Clock)

    # -- verbs -------------------------------------------------------------------------------------------------------

    @rule(verb=VERBS)
    def run(self, verb: str) -> None:
        """Run a verb to its end; run again, it changes nothing."""
        self.place.act(verb)
        assert judge(self.place, verb, {}) == []
        before = self._world()
        self.place.act("destroy" if verb == "destroy" else "resume")
        assert self._world() == before

    @rule(verb=VERBS, number=st.integers(1, 160))
    def crash_at(self, verb: str, number: int) -> None:
        """Kill a verb at one of its points, if it has so many."""
        assert self.place.forked(verb, f"#{number}=kill") in {KILLED, ENDED_WELL}

    @rule(verb=VERBS)
    def second_process(self, verb: str) -> None:
        """Run a verb while somebody else owns the bottle."""
        self.place.runtime().journal.close()
        before = self._world()
        with BottleLock(self.place.state, BOTTLE, command="apply"), pytest.raises(LockHeldError, match="held by pid"):
            self.place.act(verb)
        assert self._world() == before

    @rule()
    def prove_again(self) -> None:
        """Let it prove itself again: whatever comes of it, neither the world nor its state moves."""
        runtime = self.place.runtime()
        before, known = self._world(), runtime.journal.record(BOTTLE)
        try:
            with contextlib.suppress(BackendError):
                prove(runtime, BOTTLE)
            now = runtime.journal.record(BOTTLE)
        finally:
            runtime.journal.close()
        assert self._world() == before
        assert now is not None
        stands = ("state", "outcome", "attempted", "open_steps", "open_intent", "resources", "facts", "evidence")
        assert known is None or [getattr(now, n) for n in stands] == [getattr(known, n) for n in stands]

    # -- the world ---------------------------------------------------------------------------------------------------

    @rule(role=ONES)
    def external_remove(self, role: str) -> None:
        for found in self._of_role(role):
            with contextlib.suppress(BackendError):  # a network with members stays
                self.place.world.remove(found.id)

    @rule(role=ONES)
    def external_stop(self, role: str) -> None:
        for found in self._of_role(role):
            if found.state == "running":
                self.place.world.stop(found.id)

    @rule()
    def engine_restart(self) -> None:
        self.place.runtime().journal.close()
        self.place.world.restart()

    @rule(hours=st.integers(-50, 50))
    def clock_jump(self, hours: int) -> None:
        _Clock.offset = timedelta(hours=hours)

    @rule(name=st.sampled_from(sorted(MANIFESTS)))
    def manifest_change(self, name: str) -> None:
        (self.place.folder / "manifest.yaml").write_text(MANIFESTS[name])

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def record_holds(self) -> None:
        """The chain is whole, the record is the fold, nothing is there that nobody meant to make."""
        if not self.place.state.exists():
            return
        runtime = self.place.runtime()
        try:
            runtime.journal.verify()
        finally:
            runtime.journal.close()
        assert strays(self.place) == []

    def _world(self) -> list[tuple[str, str]]:
        return sorted((o.id, o.state) for o in self.place.world.objects())

    def _of_role(self, role: str) -> list[Any]:
        return [o for o in self.place.world.objects() if o.labels["bottle-fsm.role"] == role]


AnyOrder.TestCase.settings = settings(
    max_examples=400 if LONG else 30,
    stateful_step_count=30 if LONG else 15,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)
TestKeepsItsPromisesInAnyOrder = AnyOrder.TestCase
