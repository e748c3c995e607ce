"""BottleRecord: what the events of one bottle add up to, and the fold that adds them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from bottle_fsm.model import Event, Json
from bottle_fsm.store import kinds

LAUNCHING, READY, INTERRUPTED, FAILED, LEFTOVER, TORN_DOWN = (
    "launching",
    "ready",
    "interrupted",
    "failed",
    "leftover",
    "torn_down",
)


@dataclass(frozen=True, slots=True)
class BottleRecord:
    """The present of one bottle, folded from its events.

    Attributes:
        state: the machine's state; outcome: what that means to a person (see `status --json`).
        machine: version of the machine definition. spec, spec_json, plan_json: what the launch was made from.
        facts, resources: what was chosen and made. attempted: triggers with an intent, in order, undone ones left out.
        open_intent: an intent without outcome, `{trigger, attempt, run, epoch, sequence}`; open_steps: names of
            sub-steps without outcome. Of a dead run they are unsettled.
        down: a compensation was begun; this launch only goes down from here.
        ever_provisioned: the agent was handed over once; from then on nothing destroys its work by itself.
        evidence: the newest of each kind of finding (trust matrix, self-test rows, CA fingerprint).
    """

    bottle: str
    launch: str = ""
    slug: str = ""
    state: str = ""
    outcome: str = ""
    epoch: int = 0
    machine: str = ""
    spec: str = ""
    spec_json: Json = field(default_factory=dict)
    plan_json: Json = field(default_factory=dict)
    backend: str = ""
    manifest_path: str = ""
    on_failure: str = "teardown"
    facts: dict[str, str] = field(default_factory=dict)
    resources: tuple[Json, ...] = ()
    attempted: tuple[str, ...] = ()
    open_intent: Json = field(default_factory=dict)
    open_steps: tuple[str, ...] = ()
    down: bool = False
    ever_provisioned: bool = False
    evidence: Json = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    error: str = ""
    cause: str = ""
    boot: str = ""
    observed_at: str = ""
    since: str = ""
    sequence: int = 0

    def to_json(self) -> Json:
        """Return the record as a JSON object."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, value: Json) -> BottleRecord:
        """Read a record back from `to_json`."""
        tuples = {name: tuple(value[name]) for name in ("resources", "attempted", "open_steps")}
        return cls(**{**value, **tuples})


def fold(events: Iterable[Event]) -> dict[str, BottleRecord]:
    """Add up events in order; return a record for each bottle that they name."""
    records: dict[str, BottleRecord] = {}
    for event in events:
        if event.bottle:
            records[event.bottle] = advance(records.get(event.bottle), event)
    return records


def advance(record: BottleRecord | None, event: Event) -> BottleRecord:
    """Return the record after one more event of its bottle."""
    now = record or BottleRecord(event.bottle)
    handler = _HANDLERS.get(event.kind)
    changes = handler(now, event) if handler else {}
    epoch = max(now.epoch, event.epoch)
    return replace(now, **{**changes, "sequence": event.sequence, "boot": event.boot, "epoch": epoch})


def _declared(now: BottleRecord, event: Event) -> Json:
    evidence = event.evidence
    fresh = BottleRecord(
        bottle=now.bottle,
        launch=event.launch,
        slug=evidence["slug"],
        state=event.dest,
        outcome=LAUNCHING,
        epoch=now.epoch,
        machine=event.machine,
        spec=event.spec,
        spec_json=evidence["spec"],
        backend=evidence["backend"],
        manifest_path=evidence["manifest_path"],
        on_failure=evidence["on_failure"],
        boot=event.boot,
        since=event.time,
        sequence=event.sequence,
    )
    return fresh.to_json()


def _intent(now: BottleRecord, event: Event) -> Json:
    attempted = now.attempted if event.trigger in now.attempted else (*now.attempted, event.trigger)
    intent = {
        "trigger": event.trigger,
        "attempt": event.attempt,
        "run": event.run,
        "epoch": event.epoch,
        "sequence": event.sequence,
    }
    outcome = LEFTOVER if now.down else LAUNCHING
    return {
        "attempted": attempted,
        "open_intent": intent,
        "open_steps": (),
        "outcome": outcome,
        "error": "",
        "cause": "",
    }


def _step_done(now: BottleRecord, event: Event) -> Json:
    name = event.evidence["step"]
    remaining = list(now.open_steps)
    if name in remaining:
        remaining.remove(name)
    return {
        "open_steps": tuple(remaining),
        "facts": {**now.facts, **event.evidence.get("facts", {})},
        "resources": _merge(now.resources, event.resources),
    }


def _merge(known: tuple[Json, ...], new: tuple[Json, ...]) -> tuple[Json, ...]:
    """Replace resources by kind and id, drop those that became absent."""
    merged = {(r["kind"], r["id"]): r for r in known}
    for resource in new:
        merged[resource["kind"], resource["id"]] = resource
    return tuple(r for r in merged.values() if r["state"] != "absent")


def _moved(now: BottleRecord, event: Event) -> Json:
    changes: dict[str, Any] = {"state": event.dest, "open_intent": {}, "open_steps": (), "since": event.time}
    evidence = event.evidence
    changes["evidence"] = {**now.evidence, **{k: v for k, v in evidence.items() if k not in {"plan", "spec"}}}
    changes["observed_at"] = event.time
    if "plan" in evidence:
        changes["plan_json"] = evidence["plan"]
    if "spec" in evidence:
        changes |= {"spec_json": evidence["spec"], "spec": event.spec}
    if event.kind == kinds.SKIPPED:
        changes["skipped"] = {**now.skipped, event.dest: event.cause}
    if event.dest == "provisioned":
        changes |= {"outcome": READY, "ever_provisioned": True}
    elif event.dest == TORN_DOWN:
        changes |= {"outcome": TORN_DOWN, "resources": (), "attempted": ()}
    else:
        changes["outcome"] = LEFTOVER if now.down else LAUNCHING
    return changes


def _failed(now: BottleRecord, event: Event) -> Json:
    if event.kind == kinds.FAILED and event.dest == now.state:
        return {}  # it broke after the move was committed: the state is what counts
    if event.kind == kinds.UNDO_FAILED:
        return {"outcome": LEFTOVER, "error": event.error, "cause": event.cause}
    outcome = LEFTOVER if now.down else INTERRUPTED if event.error in {"interrupted", "decision_needed"} else FAILED
    changes: dict[str, Any] = {"outcome": outcome, "error": event.error, "cause": event.cause}
    changes["evidence"] = {**now.evidence, **event.evidence}
    if event.kind == kinds.FAILED:
        changes |= {"open_intent": {}}
    return changes


def _step_open(now: BottleRecord, event: Event) -> Json:
    return {"open_steps": (*now.open_steps, event.evidence["step"])}


def _undo_began(now: BottleRecord, event: Event) -> Json:  # noqa: ARG001 - every handler has one signature
    return {"down": True, "outcome": LEFTOVER}


def _undone(now: BottleRecord, event: Event) -> Json:
    return {"attempted": tuple(t for t in now.attempted if t != event.trigger)}


def _migrated(now: BottleRecord, event: Event) -> Json:  # noqa: ARG001 - as _undo_began
    return {"machine": event.machine}


def _seen(now: BottleRecord, event: Event) -> Json:  # noqa: ARG001 - as _undo_began
    """A look; one that found a provisioned bottle as recorded makes it ready, whatever failed before."""
    changes: dict[str, Any] = {"observed_at": event.time}
    if event.evidence.get("as_recorded"):
        changes |= {"outcome": READY, "error": "", "cause": ""}
    return changes


_HANDLERS: Final[Mapping[str, Callable[[BottleRecord, Event], Json]]] = {
    kinds.DECLARED: _declared,
    kinds.INTENT: _intent,
    kinds.STEP_INTENT: _step_open,
    kinds.STEP_DONE: _step_done,
    kinds.STEP_SKIPPED: _step_done,
    kinds.DONE: _moved,
    kinds.SKIPPED: _moved,
    kinds.FAILED: _failed,
    kinds.KEPT: _failed,
    kinds.UNDO_INTENT: _undo_began,
    kinds.UNDO_DONE: _undone,
    kinds.UNDO_FAILED: _failed,
    kinds.OBSERVED: _seen,
    kinds.MIGRATED: _migrated,
}
"""What each kind of event changes of a record; kinds that are not here leave it alone."""
