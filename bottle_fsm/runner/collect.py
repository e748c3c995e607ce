"""Collect: objects of this state root that belong to no live bottle are found, named with their cause, and removed.

Not its duty: deciding whether they may go (a person does), and a live bottle's own objects (`verbs`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.errors import BottleError, DecisionNeededError, InterruptedLaunchError, LockHeldError, StoreError
from bottle_fsm.machine.definition import Transition
from bottle_fsm.model import Host, Json, Resource, canonical
from bottle_fsm.runner.session import BackendFactory, Runtime, Session, session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.store import kinds
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.record import TORN_DOWN, BottleRecord

TRIGGER: Final = "gc"
_SECONDS: Final = 300.0
_ORDER: Final = {"container": 0, "process": 0}
"""Who is on a network goes before the network, and who uses a volume before the volume."""
_BEGAN: Final = frozenset({kinds.DECLARED, kinds.INTENT, kinds.STEP_INTENT})


@dataclass(frozen=True, slots=True)
class Stray:
    """An object of ours that belongs to no live bottle.

    Attributes:
        resource: the object. bottle: the one that its label names. backend: where it is. cause: why it is a stray.
        undecided: the journal may be older than the world, so this object is left to a person.
    """

    resource: Resource
    bottle: str
    backend: BottleBackend = field(repr=False)
    cause: str
    undecided: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from every other object."""
        return _key(self.resource)


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at every engine showed.

    Attributes:
        strays: of this state root. others: objects of other state roots, which are only ever listed.
        unreachable: engines that plans of this journal name and that could not be looked at. notes: what else to know.
    """

    strays: tuple[Stray, ...] = ()
    others: tuple[Resource, ...] = ()
    unreachable: tuple[BottleError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of the strays that were to go.

    Attributes:
        removed: observed to be gone. left: still there. skipped: bottles that another process holds.
        errors: why something was left or skipped, in the order of the attempts.
    """

    removed: tuple[Stray, ...]
    left: tuple[Stray, ...]
    skipped: tuple[str, ...]
    errors: tuple[BottleError, ...]


def find(
    journal: Journal | None,
    host: Host,
    make_backend: BackendFactory,
    *,
    today: Collection[str],
    all_roots: bool = False,
) -> Found:
    """Look at every engine that a recorded plan names, and at those that today's environment names.

    Args:
        journal: None where nothing was ever recorded: then only other state roots' objects can be told.
        host: this machine; its `root_id` says what is ours.
        make_backend: makes a backend.
        today: names of the backends to look at besides the recorded ones.
        all_roots: list other state roots' objects, too.
    """
    backends, unreachable = _recorded(journal, host, make_backend)
    listed: dict[tuple[str, str, str], tuple[Resource, BottleBackend]] = {}
    notes = []
    for backend in backends:
        try:
            _list(backend, host, listed, all_roots=all_roots)
        except BottleError as error:
            unreachable.append(error)
    for name in today:
        try:
            _list(make_backend(name, host, {}), host, listed, all_roots=all_roots)
        except BottleError as error:
            notes.append(f"today's {name} engine was not looked at: {error.problem}")
    ours = [(r, b) for r, b in listed.values() if journal is not None and r.detail["root"] == host.root_id]
    others = tuple(r for r, _ in listed.values() if r.detail["root"] != host.root_id)
    strays = tuple(_strays(journal, ours)) if journal is not None else ()
    return Found(strays, others, tuple(unreachable), tuple(notes))


def collect(runtime: Runtime, strays: Iterable[Stray], *, lock_timeout: float = 0.0) -> Collected:
    """Remove strays, bottle by bottle, each under its bottle's lock; what is undecided is not touched.

    Raises:
        InterruptedLaunchError: a signal asked to stop; what was removed is recorded.
    """
    wanted = [s for s in strays if not s.undecided]
    errors: list[BottleError] = []
    skipped: list[str] = []
    for bottle in sorted({s.bottle for s in wanted}):
        mine = [s for s in wanted if s.bottle == bottle]
        try:
            with session(runtime, bottle, command=TRIGGER, lock_timeout=lock_timeout) as owned:
                errors += _remove_all(owned, mine)
        except LockHeldError as held:
            skipped.append(bottle)
            errors.append(held)
        except (InterruptedLaunchError, StoreError):
            raise
        except BottleError as error:
            errors.append(error)
    left = tuple(_still_there(runtime, wanted))
    removed = tuple(s for s in wanted if s not in left)
    return Collected(removed, left, tuple(skipped), tuple(errors))


# -- looking -----------------------------------------------------------------------------------------------------------


def _recorded(
    journal: Journal | None, host: Host, make_backend: BackendFactory
) -> tuple[list[BottleBackend], list[BottleError]]:
    """Return a backend for each engine that a plan of the journal was made for, each proved to be that engine."""
    plans: dict[bytes, Json] = {}
    for event in journal.events(kind=kinds.DONE) if journal is not None else ():
        plan = event.evidence.get("plan")
        if plan:
            plans[canonical([plan["backend"], plan["endpoint"]])] = plan
    found: list[BottleBackend] = []
    failed: list[BottleError] = []
    for plan in plans.values():
        try:
            backend = make_backend(plan["backend"], host, plan["endpoint"])
            backend.check_endpoint(backend.load_plan(plan))
        except BottleError as error:
            failed.append(error)
        else:
            found.append(backend)
    return found, failed


def _list(
    backend: BottleBackend,
    host: Host,
    listed: dict[tuple[str, str, str], tuple[Resource, BottleBackend]],
    *,
    all_roots: bool,
) -> None:
    for resource in backend.everything(None if all_roots else host.root_id):
        listed.setdefault(_key(resource), (resource, backend))


def _key(resource: Resource) -> tuple[str, str, str]:
    return str(resource.detail["engine"]), resource.kind, resource.id


def _strays(journal: Journal, ours: Sequence[tuple[Resource, BottleBackend]]) -> Iterator[Stray]:
    """Yield what no live bottle has: those of one bottle together, members before networks."""
    by_bottle: dict[str, list[tuple[Resource, BottleBackend]]] = {}
    for resource, backend in ours:
        by_bottle.setdefault(str(resource.detail["bottle"]), []).append((resource, backend))
    for bottle, items in sorted(by_bottle.items()):
        record = journal.record(bottle) or BottleRecord(bottle)
        loose = [(r, b) for r, b in items if not _lives(record, r.launch)]
        if not loose:
            continue
        launches, newest = _history(journal, bottle)
        strange = [r for r, _ in loose if r.launch not in launches and r.epoch > newest]
        for resource, backend in sorted(loose, key=lambda item: (_ORDER.get(item[0].kind, 1), item[0].name)):
            cause = _cause(record, resource, launches, newest)
            yield Stray(resource, bottle, backend, cause, undecided=bool(strange))


def _lives(record: BottleRecord, launch: str) -> bool:
    return record.launch == launch and record.state != TORN_DOWN


def _history(journal: Journal, bottle: str) -> tuple[set[str], int]:
    """Return the launches that a bottle ever had, and the newest epoch in which one of its owners began to act."""
    launches, newest = set(), 0
    for event in journal.events(bottle=bottle):
        if event.kind in _BEGAN:
            newest = max(newest, event.epoch)
        if event.kind == kinds.DECLARED:
            launches.add(event.launch)
    return launches, newest


def _cause(record: BottleRecord, resource: Resource, launches: Collection[str], newest: int) -> str:
    launch = resource.launch
    if launch == record.launch:
        return f"its launch {launch} was torn down"
    if launch in launches:
        return f"its launch {launch} was superseded by {record.launch}"
    if resource.epoch > newest:
        return f"its launch {launch} is unknown to this journal, and newer (epoch {resource.epoch}, last is {newest})"
    return f"its launch {launch} is unknown to this journal"


# -- removing ----------------------------------------------------------------------------------------------------------


def _remove_all(owned: Session, strays: Sequence[Stray]) -> list[BottleError]:
    """Remove one bottle's strays; return what went wrong instead of raising it, so that the others get their turn."""
    record = owned.record
    edge = Transition(TRIGGER, (record.state,), record.state, attempt_timeout=_SECONDS, deadline=_SECONDS)
    errors: list[BottleError] = []
    for stray in strays:
        if _lives(owned.record, stray.resource.launch):
            problem = f"{stray.resource.name} belongs to a live bottle by now"
            errors.append(DecisionNeededError(problem, place=owned.bottle, hint="It was not touched."))
            continue
        steps = RunnerSteps(
            owned,
            edge,
            source=record.state,
            attempt=1,
            stop=owned.runtime.stop,
            launch=stray.resource.launch,
            backend=stray.backend,
        )
        owned.check_owner()
        try:
            stray.backend.remove(stray.resource, steps, cause=f"{TRIGGER}: {stray.cause}")
        except (InterruptedLaunchError, StoreError):
            raise
        except BottleError as error:
            errors.append(error)
    return errors


def _still_there(runtime: Runtime, strays: Sequence[Stray]) -> Iterator[Stray]:
    """Look again at every engine concerned; one that does not answer proves nothing to be gone."""
    root = runtime.root.root_id
    for backend in {id(s.backend): s.backend for s in strays}.values():
        mine = [s for s in strays if s.backend is backend]
        try:
            there = {_key(r) for r in backend.everything(root)}
        except BottleError:
            there = {s.key for s in mine}
        yield from (s for s in mine if s.key in there)
