"""Session: one owner of one bottle, for as long as it holds the lock. Everything that is committed goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.errors import DecisionNeededError, StoreError
from bottle_fsm.machine.definition import Definition
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Event, Host, Json, Launch, Observed, Resource
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.runner.people import People
from bottle_fsm.runner.stop import Stop
from bottle_fsm.secret import Secret
from bottle_fsm.store.draft import Draft
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.lock import BottleLock
from bottle_fsm.store.record import BottleRecord
from bottle_fsm.store.root import StateRoot

BackendFactory = Callable[[str, Host, Json], BottleBackend]
"""Makes the backend of a name for a recorded endpoint (empty: today's)."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all sessions of one process share."""

    root: StateRoot
    journal: Journal
    definition: Definition
    host: Host
    make_backend: BackendFactory
    people: People
    stop: Stop


class Session:
    """One bottle under our lock and epoch."""

    def __init__(self, runtime: Runtime, bottle: str, epoch: int) -> None:
        self.runtime = runtime
        self.bottle = bottle
        self.epoch = epoch
        self.facts: dict[str, str] = dict(self.record.facts)
        self.answers: dict[str, Secret] = {}
        self._backend: BottleBackend | None = None
        self._looked = False

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def record(self) -> BottleRecord:
        """The bottle's record as of now."""
        return self.runtime.journal.record(self.bottle) or BottleRecord(self.bottle)

    @property
    def backend(self) -> BottleBackend:
        """The backend of the current launch, on the engine that the plan recorded and on no other.

        Raises:
            DecisionNeededError: another engine answers at the recorded endpoint.
        """
        if self._backend is None:
            record = self.record
            endpoint = record.plan_json.get("endpoint", {})
            backend = self.runtime.make_backend(record.backend, self.runtime.host, endpoint)
            if record.plan_json:
                backend.check_endpoint(backend.load_plan(record.plan_json))
            self._backend = backend
        return self._backend

    @property
    def spec(self) -> BottleSpec:
        """The manifest's part of this launch."""
        return BottleSpec.from_json(self.record.spec_json)

    @property
    def plan(self) -> BottlePlan:
        """The recorded plan.

        Raises:
            StoreError: none is recorded yet.
        """
        value = self.record.plan_json
        if not value:
            raise StoreError("no plan is recorded for this launch", place=self.bottle)
        return self.backend.load_plan(value)

    def launch(self) -> Launch:
        """The launch as effects need it; its facts are live."""
        record = self.record
        return Launch(
            root=self.runtime.root.root_id,
            bottle=self.bottle,
            launch=record.launch,
            slug=record.slug,
            epoch=self.epoch,
            facts=self.facts,
            recorded=tuple(Resource.from_json(r) for r in record.resources),
        )

    # -- what is done ------------------------------------------------------------------------------------------------

    def commit(self, kind: str, **fields: Any) -> Event:
        """Commit an event of this bottle's current launch and tell people."""
        event = self.runtime.journal.append(Draft(kind, self.bottle, epoch=self.epoch, inherit=True, **fields))
        self.runtime.people.committed(event)
        return event

    def observe(self) -> Observed:
        """Look at the world; refuse to go on when it shows an owner that the journal does not know.

        The first look asks for more than a newer epoch: a restored journal counts epochs again that were used before,
        so an object must come from a launch and an epoch of which the journal says that they began to act.

        Raises:
            DecisionNeededError: an object has an unknown maker, so this state directory is older than the world.
        """
        observed = self.backend.observe(self.launch())
        strange = [r for r in observed.ours if r.epoch > self.epoch]
        labelled = [r for r in observed.ours if r.launch and r.epoch]
        if labelled and not self._looked:
            known = self.runtime.journal.acted(self.bottle)
            strange += [r for r in labelled if (r.launch, r.epoch) not in known]
        if strange:
            maker = f"launch {strange[0].launch}, epoch {strange[0].epoch}, ours is {self.epoch}"
            raise DecisionNeededError(
                f"{strange[0].name} was made by a later run that this journal does not know ({maker})",
                place=self.bottle,
                hint="This state directory was restored or copied. Use the newer one, or remove the object by hand.",
            )
        self._looked = True
        return observed

    def check_owner(self) -> None:
        """Make sure that nobody else took the bottle; call it directly before acting."""
        self.runtime.journal.check_epoch(self.bottle, self.epoch)

    def begin(self, facts: Mapping[str, str] | None = None) -> None:
        """Forget what belonged to an earlier launch: facts and the chosen backend."""
        self.facts.clear()
        self.facts.update(facts or {})
        self._backend = None


@contextmanager
def session(runtime: Runtime, bottle: str, *, command: str, lock_timeout: float = 0.0) -> Iterator[Session]:
    """Take a bottle's lock and a new epoch for as long as the body runs.

    Raises:
        LockHeldError: another process has it, and had it for `lock_timeout` seconds.
    """
    sleep = runtime.stop.sleep
    with BottleLock(runtime.root.path, bottle, command=command, timeout=lock_timeout, sleep=sleep):
        epoch = runtime.journal.take(bottle, command=command)
        yield Session(runtime, bottle, epoch)
