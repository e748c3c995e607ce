"""The machine as a table: `states/*.yaml`, strictly validated, frozen.

Not its duty: running anything. A definition that loads has no wildcard, no dead end, no unreachable state and no name
that the registry does not know.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bottle_fsm import errors
from bottle_fsm.errors import DefinitionError
from bottle_fsm.model import Json, canonical

_TOP = {"version", "name", "migrates_from", "states", "transitions"}
_STATE = {"name", "means", "initial", "final"}
_TRANSITION = {
    "trigger",
    "source",
    "dest",
    "needs",
    "effect",
    "observe",
    "compensate",
    "attempt_timeout",
    "deadline",
    "retry",
}
_RETRY = {"on", "interval", "backoff", "max_attempts", "jitter"}
_VERSION = re.compile(r"[0-9a-f]{16}")
FEATURES = frozenset({"tls_interception"})
"""What a transition may need of a backend."""
RESERVED_TRIGGERS = frozenset({"state", "trigger", "name"})
"""Names that the model has already; an event so named would silently never fire."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often an attempt is made again; all times in seconds."""

    on: tuple[str, ...] = ()
    interval: float = 0.0
    backoff: float = 1.0
    max_attempts: int = 1
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """One state: its name and what is true when it is reached."""

    name: str
    means: str
    initial: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """One edge, with the names of its effect, observation and compensation; see `states/bottle.yaml`."""

    trigger: str
    source: tuple[str, ...]
    dest: str
    needs: str = ""
    effect: str = ""
    observe: str = ""
    compensate: str = ""
    attempt_timeout: float = 60.0
    deadline: float = 60.0
    retry: Retry = Retry()


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole machine.

    Attributes:
        name: of the machine. states, transitions: its table. raw: the document that it was read from.
        version: the digest under which launches and events name it.
        migrates_from: the versions whose launches may go on under this one.
    """

    name: str
    states: tuple[State, ...]
    transitions: tuple[Transition, ...]
    version: str
    raw: Json
    migrates_from: tuple[str, ...] = ()

    @property
    def initial(self) -> str:
        """The state in which a launch begins."""
        return next(s.name for s in self.states if s.initial)

    @property
    def final(self) -> str:
        """The state in which a launch ends."""
        return next(s.name for s in self.states if s.final)

    @property
    def order(self) -> tuple[str, ...]:
        """State names in the order of the file, which is the order of a launch."""
        return tuple(s.name for s in self.states)

    def transition(self, trigger: str) -> Transition:
        """Return the transition that a trigger names."""
        for transition in self.transitions:
            if transition.trigger == trigger:
                return transition
        raise DefinitionError(f"no transition is triggered by {trigger!r}", place=self.name)

    def forward(self, state: str) -> Transition | None:
        """Return the transition from `state` to the next state of the launch; None at its end."""
        order = self.order
        following = order.index(state) + 1
        if following >= len(order):
            return None
        wanted = order[following]
        return next((t for t in self.transitions if state in t.source and t.dest == wanted and not self._down(t)), None)

    def reached_by(self, state: str) -> tuple[str, ...]:
        """Return the states that a launch in `state` has passed, itself included."""
        return self.order[: self.order.index(state) + 1]

    def _down(self, transition: Transition) -> bool:
        return transition.dest == self.final


def parse(value: Json, *, place: str, names: Collection[str]) -> Definition:
    """Check a loaded document and return the machine.

    Args:
        value: the YAML document as plain values.
        place: the file's name, for messages.
        names: what the registry knows; every effect, observe and compensate must be one of these.

    Raises:
        DefinitionError: anything at all is wrong; a wrong machine is never run.
    """
    try:
        _only(value, _TOP, place)
        if value.get("version") != 1:
            raise DefinitionError("version must be 1", place=place)
        states = tuple(_state(v, f"{place} states/{i}") for i, v in enumerate(value["states"]))
        transitions = tuple(_transition(v, f"{place} transitions/{i}") for i, v in enumerate(value["transitions"]))
        name = str(value["name"])
        migrates_from = _versions(value.get("migrates_from", []), place)
    except (KeyError, TypeError, AttributeError) as error:
        raise DefinitionError(f"malformed definition: {error!r}", place=place) from error
    version = hashlib.sha256(canonical(value)).hexdigest()[:16]
    definition = Definition(name, states, transitions, version, value, migrates_from)
    _check_states(definition, place)
    _check_edges(definition, place, names)
    _check_graph(definition, place)
    return definition


def _only(value: Mapping[str, Any], known: set[str], place: str) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise DefinitionError(f"unknown key {unknown[0]!r}", place=place, hint=f"Known: {', '.join(sorted(known))}.")


def _versions(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and _VERSION.fullmatch(v) for v in value):
        raise DefinitionError("migrates_from must list versions, each of 16 hex digits", place=place)
    if len(set(value)) != len(value):
        raise DefinitionError("migrates_from lists a version twice", place=place)
    return tuple(value)


def _state(value: Json, place: str) -> State:
    _only(value, _STATE, place)
    return State(value["name"], value["means"], bool(value.get("initial")), bool(value.get("final")))


def _transition(value: Json, place: str) -> Transition:
    _only(value, _TRANSITION, place)
    retry = value.get("retry", {})
    _only(retry, _RETRY, f"{place} retry")
    source = value["source"]
    if not isinstance(source, list) or not source or "*" in source:
        raise DefinitionError("source must list states by name, without wildcards", place=place)
    return Transition(
        trigger=value["trigger"],
        source=tuple(source),
        dest=value["dest"],
        needs=value.get("needs", ""),
        effect=value.get("effect", ""),
        observe=value.get("observe", ""),
        compensate=value.get("compensate", ""),
        attempt_timeout=float(value.get("attempt_timeout", 60)),
        deadline=float(value.get("deadline", 60)),
        retry=Retry(
            on=tuple(retry.get("on", ())),
            interval=float(retry.get("interval", 0)),
            backoff=float(retry.get("backoff", 1)),
            max_attempts=int(retry.get("max_attempts", 1)),
            jitter=float(retry.get("jitter", 0)),
        ),
    )


def _check_states(definition: Definition, place: str) -> None:
    names = [s.name for s in definition.states]
    if len(set(names)) != len(names):
        raise DefinitionError("a state is declared twice", place=place)
    if [s.initial for s in definition.states].count(True) != 1 or not definition.states[0].initial:
        raise DefinitionError("exactly the first state must be initial", place=place)
    if [s.final for s in definition.states].count(True) != 1 or not definition.states[-1].final:
        raise DefinitionError("exactly the last state must be final", place=place)
    for name in names:
        if not name.isidentifier():
            raise DefinitionError(f"state {name!r} is not a plain name", place=place)


def _check_edges(definition: Definition, place: str, names: Collection[str]) -> None:
    known = set(definition.order)
    seen: set[str] = set()
    for transition in definition.transitions:
        where = f"{place} {transition.trigger}"
        if not transition.trigger.isidentifier() or transition.trigger in RESERVED_TRIGGERS | known:
            raise DefinitionError(f"trigger {transition.trigger!r} is not usable as a name", place=where)
        if transition.trigger in seen:
            raise DefinitionError("the trigger is declared twice", place=where)
        seen.add(transition.trigger)
        for state in (*transition.source, transition.dest):
            if state not in known:
                raise DefinitionError(f"unknown state {state!r}", place=where)
        if definition.final in transition.source:
            raise DefinitionError(f"nothing leads out of the final state {definition.final}", place=where)
        if transition.needs and transition.needs not in FEATURES:
            raise DefinitionError(f"unknown feature {transition.needs!r}", place=where)
        for name in (transition.effect, transition.observe, transition.compensate):
            if name and name not in names:
                raise DefinitionError(
                    f"unknown function {name!r}", place=where, hint=f"Known: {', '.join(sorted(names))}."
                )
        _check_times(transition, where)


def _check_times(transition: Transition, where: str) -> None:
    retry = transition.retry
    codes = {cls.code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.BottleError)}
    unknown = sorted(set(retry.on) - codes)
    if unknown:
        raise DefinitionError(f"unknown error class {unknown[0]!r}", place=f"{where} retry/on")
    if not 0 < transition.attempt_timeout <= transition.deadline:
        raise DefinitionError("attempt_timeout must be above 0 and at most the deadline", place=where)
    if retry.max_attempts < 1 or retry.interval < 0 or retry.backoff < 1 or not 0 <= retry.jitter <= 1:
        raise DefinitionError("retry wants max_attempts ≥ 1, interval ≥ 0, backoff ≥ 1, 0 ≤ jitter ≤ 1", place=where)


def _check_graph(definition: Definition, place: str) -> None:
    reachable = _closure(definition, {definition.initial})
    lost = [s for s in definition.order if s not in reachable]
    if lost:
        raise DefinitionError(f"state {lost[0]!r} cannot be reached", place=place)
    for state in definition.order[:-1]:
        if not any(state in t.source and t.dest == definition.final for t in definition.transitions):
            raise DefinitionError(f"state {state!r} has no way to {definition.final}", place=place)
        if state != definition.order[-2] and definition.forward(state) is None:
            raise DefinitionError(f"state {state!r} has no transition to the next state", place=place)


def _closure(definition: Definition, found: set[str]) -> set[str]:
    while True:
        more = {t.dest for t in definition.transitions if found & set(t.source)} - found
        if not more:
            return found
        found = found | more
