"""From the desired set and the observed one to operations, each with its cause. Pure.

The words of a cause are the ones that `plan` prints and that log and journal repeat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bottle_fsm.model import Json, Launch, Observed, Resource
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject

Action = Literal["adopt", "create", "start", "replace", "remove", "refuse"]

DEPTH = 3
"""How many levels of an object's inputs a cause names: deep enough to find the key, short enough to read."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do to one object.

    Attributes:
        action: `adopt` (it is there as wanted), `create`, `start` (it stopped), `replace` (made from other inputs),
            `remove` (not wanted, or a duplicate), `refuse` (a foreign object has its name).
        target: the planned object, None when something unplanned is removed.
        found: the observed object, None when there is none.
        cause: why, in plain words.
    """

    action: Action
    role: str
    name: str
    cause: str
    target: PlannedObject | None = None
    found: Resource | None = None

    def __str__(self) -> str:
        return f"{self.action} {self.role} {self.name}: {self.cause}"


def diff(plan: BottlePlan, observed: Observed, launch: Launch, previous: BottlePlan | None = None) -> list[Operation]:
    """Compare plan and world; return operations in the plan's order of creation, removals last.

    `previous` is the plan that the observed objects were made from, to name the changed key in a cause.
    """
    operations: list[Operation] = []
    kept: set[str] = set()
    for target in plan.objects:
        for operation in _for_object(target, observed, launch, previous):
            operations.append(operation)
            if operation.found is not None:
                kept.add(operation.found.id)
    # A volume of this launch goes with the container that it was made for; no plan knows what an image declares.
    extra = [r for r in observed.ours if r.id not in kept and not (r.kind == "volume" and r.launch == launch.launch)]
    operations += [Operation("remove", r.role, r.name, "not in the plan", found=r) for r in extra]
    return operations


def unmet(plan: BottlePlan, observed: Observed, launch: Launch, states: Iterable[str]) -> list[Operation]:
    """Return what is missing or wrong of the objects that must be there in any of `states`; empty: as promised."""
    wanted = set(states)
    return [
        o
        for o in diff(plan, observed, launch)
        if o.action != "adopt" and o.target is not None and o.target.state in wanted
    ]


def _for_object(
    target: PlannedObject, observed: Observed, launch: Launch, previous: BottlePlan | None
) -> list[Operation]:
    foreign = [r for r in observed.resources if r.foreign and r.kind == target.kind and r.name == target.name]
    if foreign:
        cause = "an object of this name exists and is not ours"
        return [Operation("refuse", target.role, target.name, cause, target, foreign[0])]
    same_name = [r for r in observed.of_role(target.role) if r.name == target.name]
    if not same_name:
        return [Operation("create", target.role, target.name, "not found", target)]
    first, *duplicates = sorted(same_name, key=lambda r: not r.detail.get("ours_inside", False))
    operations = [_for_found(target, first, launch, previous)]
    operations += [Operation("remove", d.role, d.name, "a duplicate", found=d) for d in duplicates]
    return operations


def _for_found(target: PlannedObject, found: Resource, launch: Launch, previous: BottlePlan | None) -> Operation:
    def operation(action: Action, cause: str) -> Operation:
        return Operation(action, target.role, target.name, cause, target, found)

    if found.launch != launch.launch:
        return operation("replace", f"belongs to another launch, {found.launch}")
    if found.spec != target.spec(launch.facts):
        return operation("replace", changed_cause(target, previous))
    return operation(*_for_running(found)) if target.runs else operation("adopt", "found as planned")


def _for_running(found: Resource) -> tuple[Action, str]:
    if found.state == "created":
        return "replace", "was created but never started"
    if found.state != "running":
        code = found.detail.get("exit_code")
        return "start", "not running" if code is None else f"exited with code {code}"
    if found.healthy is False:
        return "replace", "fails its health check"
    return "adopt", "found as planned"


def changed_cause(target: PlannedObject, previous: BottlePlan | None) -> str:
    """Name the input that made an object's spec differ, as `manifest changed: image`."""
    planned = previous.objects if previous else ()
    before = next((o for o in planned if o.role == target.role and o.name == target.name), None)
    if before is None:
        return "made from other inputs"
    changed = sorted(changed_keys(before.inputs, target.inputs))
    return f"manifest changed: {', '.join(changed)}" if changed else "its image or network changed"


def changed_keys(before: Json, after: Json, depth: int = DEPTH) -> set[str]:
    """Return the dotted paths at which two JSON objects differ, at most `depth` levels deep."""
    paths: set[str] = set()
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        inner: set[str] = set()
        if depth > 1 and isinstance(old, dict) and isinstance(new, dict):
            inner = changed_keys(old, new, depth - 1)
        paths |= {f"{key}.{path}" for path in inner} or {str(key)}
    return paths
