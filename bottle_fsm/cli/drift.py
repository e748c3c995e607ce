"""Drift: a look at the world beside the record, without changing anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bottle_fsm.cli.decisions import collected
from bottle_fsm.cli.standing import Standing
from bottle_fsm.cli.target import READY, Target, target
from bottle_fsm.errors import BottleError
from bottle_fsm.plan.diff import unmet
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.store.record import TORN_DOWN
from bottle_fsm.traffic.cursor import counts_of


def look(directory: Path, standing: Standing) -> Standing:
    """Return the standing with what a look found; a bottle that cannot be looked at says why."""
    if not standing.record.plan_json:
        return replace(standing, drift=())
    try:
        at = target(directory, standing.record)
        found = _causes(at)
    except BottleError as error:
        return replace(standing, drift=(f"cannot be looked at: {error}",))
    problem = "" if standing.record.state == TORN_DOWN else collected(directory, at)
    counts = counts_of(directory, standing.record.slug, standing.record.launch)
    return replace(standing, drift=found, egress=counts, uncollected=problem)


def _causes(at: Target) -> tuple[str, ...]:
    observed = at.backend.observe(at.launch)
    if at.record.state == TORN_DOWN:
        return tuple(f"{r.role} {r.name}: left over from a launch that was torn down" for r in observed.ours)
    definition = load_definition()
    if at.record.state not in definition.order:
        return (f"the state {at.record.state} is one of machine version {at.record.machine}",)
    promised = definition.reached_by(at.record.state)
    wrong = tuple(f"{o.role} {o.name}: {o.cause}" for o in unmet(at.plan, observed, at.launch, promised))
    if wrong or at.record.state != READY:
        return wrong
    more = at.backend.drift(at.plan, at.launch)
    return (more,) if more else ()
