"""A model of one launch: journal × world, with every death of the launcher and every loss of an object in between.

Who decides what comes next are the shipped parts: `Definition` names the transitions, `diff` and `unmet` say what they
do and when they are done, the shipped fold says what is remembered. Typed here is only what those leave to the runner:
intent, act, done, in this order, an undo for each attempted transition, and what an owner forgets when it dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bottle_fsm.machine.definition import Definition, Transition
from bottle_fsm.model import Event, Launch, Observed, Resource
from bottle_fsm.naming import ROLE_AGENT, ROLE_GUARD, ROLE_INTERCEPTOR
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.plan.diff import Operation, diff, unmet
from bottle_fsm.store import kinds
from bottle_fsm.store.record import BottleRecord, advance

SIDECARS = frozenset({ROLE_GUARD, ROLE_INTERCEPTOR})
World = frozenset[tuple[str, str]]
"""What is there: role and state of each object."""


@dataclass(frozen=True)
class Owner:
    """What a living launcher has in memory: its epoch, and what of it the journal does not say yet.

    `intent`: it committed the open intent itself. `fresh`: containers that it made and did not start yet. `acted`: the
    sub-step whose effect is done and whose outcome is not committed. `seen`: sidecars that it saw run before the agent.
    """

    epoch: int
    down: bool = False
    intent: bool = False
    fresh: frozenset[str] = frozenset()
    acted: str = ""
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """One moment; `losses` and `deaths` may still come. `started`: what was seen before the agent was last started."""

    record: BottleRecord
    world: World
    owner: Owner | None
    losses: int
    deaths: int
    started: frozenset[str] = field(default=SIDECARS)

    @property
    def key(self) -> tuple[object, ...]:
        """What tells two states apart: all but times and numbers."""
        r = self.record
        made = frozenset((x["role"], x["state"]) for x in r.resources)
        memory = (r.state, r.open_intent.get("trigger"), r.open_steps, frozenset(r.attempted), r.down, r.outcome, made)
        owner = replace(self.owner, epoch=0) if self.owner else None
        return (*memory, self.world, owner, self.losses, self.deaths, self.started)


class Model:
    """The transition function of a definition and a plan."""

    def __init__(self, definition: Definition, plan: BottlePlan, declared: BottleRecord) -> None:
        self.definition = definition
        self.plan = plan
        self._launch = Launch("root", declared.bottle, declared.launch, declared.slug, 1)
        self._declared = declared
        self._planned = {o.role: o for o in plan.objects}

    def first(self, *, losses: int, deaths: int) -> State:
        """The launch is declared, nothing is there, its owner lives."""
        return State(self._declared, frozenset(), Owner(self._declared.epoch), losses, deaths)

    def next(self, state: State) -> Iterator[State]:
        """Yield every state that a commit, an act, a death or a loss leads to."""
        if state.losses:
            for found in state.world:
                yield replace(state, world=state.world - {found}, losses=state.losses - 1)
        if state.record.state == self.definition.final:
            return
        if state.owner is None:
            owner = Owner(state.record.epoch + 1, down=state.record.down)
            yield replace(state, owner=owner, record=replace(state.record, epoch=owner.epoch))
            yield replace(state, owner=replace(owner, down=True), record=replace(state.record, epoch=owner.epoch))
            return
        if state.deaths:
            yield replace(state, owner=None, deaths=state.deaths - 1)
        yield from self._down(state, state.owner) if state.owner.down else self._up(state, state.owner)

    # -- up ----------------------------------------------------------------------------------------------------------

    def _up(self, state: State, owner: Owner) -> Iterator[State]:
        here = state.record.state
        transition = self.definition.forward(here)
        if owner.acted and transition is not None:
            yield self._step_done(state, owner, transition)
        elif transition is None:
            if self.unmet(state, here):
                yield self._moved(state, owner, self.definition.transition("repair"))
        elif not owner.intent:
            yield self._told(state, replace(owner, intent=True), kinds.INTENT, transition)
        else:
            yield from self._effect(state, owner, transition)

    def _effect(self, state: State, owner: Owner, transition: Transition) -> Iterator[State]:
        if not owner.fresh and transition.observe and self.unmet(state, state.record.state):
            yield self._moved(state, owner, self.definition.transition("repair"))
            return
        operations = [o for o in self._operations(state, owner) if o.target and o.target.state == transition.dest]
        due = next((o for o in operations if o.action != "adopt"), None)
        if due is not None:
            yield from self._step(state, owner, transition, due)
        elif transition.observe and self.unmet(state, transition.dest):
            yield replace(state, owner=replace(owner, down=True, intent=False))  # it failed; or it is kept:
            yield replace(state, owner=None)
        else:
            yield self._moved(state, owner, transition)

    def _step(self, state: State, owner: Owner, transition: Transition, due: Operation) -> Iterator[State]:
        name = f"{due.action} {due.role}"
        if name not in state.record.open_steps:
            looked = due.role == ROLE_AGENT and not owner.fresh
            seen = frozenset(role for role in SIDECARS if (role, "running") in state.world) if looked else owner.seen
            yield self._told(state, replace(owner, seen=seen), kinds.STEP_INTENT, transition, step=name)
            return
        rest = frozenset(found for found in state.world if found[0] != due.role)
        runs = due.target is not None and due.target.runs
        fresh = owner.fresh - {due.role}
        if due.action == "replace":
            world = rest
        elif due.action == "create":
            world = rest | {(due.role, "created" if runs else "present")}
            fresh = owner.fresh | {due.role} if runs else fresh
        else:
            world = rest | {(due.role, "running")}
        starts = due.role == ROLE_AGENT and due.action == "start"
        started = owner.seen if starts else state.started
        yield replace(state, world=world, owner=replace(owner, acted=name, fresh=fresh), started=started)

    def _step_done(self, state: State, owner: Owner, transition: Transition) -> State:
        role = owner.acted.partition(" ")[2]
        found = tuple(r for r in self.observed(state).ours if r.role == role)
        planned = self._planned[role]
        made = found or (Resource(planned.kind, role, planned.name, role, state="absent"),)
        return self._told(state, replace(owner, acted=""), kinds.STEP_DONE, transition, step=owner.acted, made=made)

    # -- down --------------------------------------------------------------------------------------------------------

    def _down(self, state: State, owner: Owner) -> Iterator[State]:
        transition = self.definition.transition("tear_down")
        if state.record.state == self.definition.final:
            return
        if not owner.intent:
            yield self._told(state, replace(owner, intent=True), kinds.INTENT, transition)
            return
        undo = next((t for t in reversed(self.definition.transitions) if self._owed(state, t)), None)
        if undo is None:
            if not self.observed(state).ours:
                yield self._moved(state, owner, transition)
        elif not state.record.down:
            yield self._told(state, owner, kinds.UNDO_INTENT, undo)
        else:
            there = [f for o in reversed(self.plan.objects) for f in state.world if f[0] == o.role]
            mine = [f for f in there if self._planned[f[0]].state == undo.dest]
            if mine:
                yield replace(state, world=state.world - {mine[0]})
            else:
                yield self._told(state, owner, kinds.UNDO_DONE, undo)

    def _owed(self, state: State, transition: Transition) -> bool:
        there = any(self._planned[role].state == transition.dest for role, _ in state.world)
        return bool(transition.compensate) and (transition.trigger in state.record.attempted or there)

    # -- what the shipped parts say ----------------------------------------------------------------------------------

    def observed(self, state: State) -> Observed:
        """The world as a backend would report it."""
        there = dict(state.world)
        return Observed(tuple(self._resource(o.role, there[o.role]) for o in self.plan.objects if o.role in there))

    def unmet(self, state: State, name: str) -> list[Operation]:
        """What the promise of a machine state and of all before it lacks."""
        return unmet(self.plan, self.observed(state), self._launch, self.definition.reached_by(name))

    def _operations(self, state: State, owner: Owner) -> list[Operation]:
        """What `diff` asks for; a container that this owner made just now is started, a dead owner's made again."""
        operations = diff(self.plan, self.observed(state), self._launch)
        return [replace(o, action="start") if o.found and o.role in owner.fresh else o for o in operations]

    def _resource(self, role: str, now: str) -> Resource:
        planned = self._planned[role]
        healthy = True if now == "running" else None
        spec = planned.spec({})
        return Resource(planned.kind, role, planned.name, role, self._launch.launch, spec, 1, now, healthy)

    def _moved(self, state: State, owner: Owner, transition: Transition) -> State:
        assert state.record.state in transition.source
        return self._told(state, replace(owner, intent=False, fresh=frozenset()), kinds.DONE, transition)

    def _told(
        self,
        state: State,
        owner: Owner,
        kind: str,
        transition: Transition,
        *,
        step: str = "",
        made: tuple[Resource, ...] = (),
    ) -> State:
        evidence = {"step": step, "role": step.partition(" ")[2]} if step else {}
        empty = dict.fromkeys(("time", "boot", "run", "machine", "spec", "cause", "error", "prev"), "")
        event = Event(
            **empty,
            sequence=0,
            monotonic=0.0,
            duration=0.0,
            attempt=1,
            actor={},
            epoch=owner.epoch,
            bottle=state.record.bottle,
            launch=state.record.launch,
            kind=kind,
            trigger=transition.trigger,
            source=state.record.state,
            dest=transition.dest,
            resources=tuple(r.to_json() for r in made),
            evidence=evidence,
        )
        return replace(state, record=advance(state.record, event), owner=owner)


def explore(model: Model, first: State) -> list[tuple[State, State]]:
    """Walk breadth first; return every edge (before, after) between states that can be reached."""
    found = {first.key}
    waiting = deque([first])
    edges = []
    while waiting:
        before = waiting.popleft()
        for after in model.next(before):
            edges.append((before, after))
            if after.key not in found:
                found.add(after.key)
                waiting.append(after)
    return edges


def go_on(model: Model, state: State, *, down: bool = False) -> State:
    """Let one launcher that does not die go on in a world that loses nothing, to its end."""
    state = replace(state, owner=None, losses=0, deaths=0)
    owners = list(model.next(state))
    if not owners:
        return state
    state = owners[1 if down else 0]
    for _ in range(200):
        following = list(model.next(state))
        if not following or following[-1].owner is None:
            return state
        state = following[0]
    raise AssertionError(f"does not end: {state.key}")
