"""Foresight: what apply would do for one bottle, found by looking only. Makes no directory and takes no lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bottle_fsm import naming
from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.choose import choose, make_backend
from bottle_fsm.cli.launching import host
from bottle_fsm.cli.reading import reading, root_id
from bottle_fsm.cli.target import READY, launch_of
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Launch, Observed
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.plan.diff import Operation, changed_keys, diff
from bottle_fsm.plan.providers import PROVIDERS
from bottle_fsm.plan.render import changes
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.upgrade import takes_over
from bottle_fsm.store.record import TORN_DOWN, BottleRecord

_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Foresight:
    """What apply would do for one bottle.

    Attributes:
        plan: the desired set. operations: from the world as it is to it. headline: in a few words.
        changes: whether anything would be done. provider_hosts: see `plan.render`. notes: what else to know.
    """

    plan: BottlePlan
    operations: list[Operation]
    headline: str
    changes: bool
    provider_hosts: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def state_host(directory: Path) -> Host:
    """Return what backends may know of this machine, without making the state directory."""
    return host(root_id(directory) if (directory / "root.json").exists() else "", directory)


def foresee(directory: Path, here: Host, spec: BottleSpec) -> Foresight:
    """Return what apply would do for a bottle whose spec was checked.

    Raises:
        BottleError: the backend cannot plan or look.
    """
    record = _record(directory, spec.bottle)
    notes = [] if here.root_id else ["this state directory is new: the last part of each name is chosen by apply"]
    if record is None:
        backend, reason = _fresh(spec, here)
        plan = backend.prepare(spec)
        operations = diff(plan, Observed(), _nobody(here, spec))
        return _foresight(spec, plan, operations, "would be launched", [f"backend {backend.name}: {reason}", *notes])
    notes += _refusals(spec, record)
    backend = make_backend(record.backend, here, record.plan_json.get("endpoint", {}))
    launch = launch_of(record, here.root_id)
    previous = backend.load_plan(record.plan_json) if record.plan_json else None
    if previous is not None:
        backend.check_endpoint(previous)
    # An unchanged manifest keeps the recorded plan, as apply does: what the host says now counts when it is revised.
    plan = previous if previous is not None and record.spec == spec.digest else backend.prepare(spec)
    operations = diff(plan, backend.observe(launch), launch, previous)
    return _foresight(
        spec, plan, operations, _headline(spec, record, operations, _drift(backend, record, launch)), notes
    )


def _foresight(
    spec: BottleSpec, plan: BottlePlan, operations: list[Operation], headline: str, notes: list[str]
) -> Foresight:
    agent = spec.agent_model
    hosts = PROVIDERS[agent.provider].hosts if agent else ()
    return Foresight(plan, operations, headline, headline != _SAME, hosts, notes)


_SAME = "is as the manifest says: nothing to do"


def _headline(spec: BottleSpec, record: BottleRecord, operations: list[Operation], drift: str) -> str:
    if record.down:
        return "its teardown would be finished, then it would be launched"
    if record.spec != spec.digest:
        keys = sorted(changed_keys(record.spec_json, spec.to_json(), depth=_DEPTH))
        return f"would be revised: manifest changed: {', '.join(keys)}"
    if record.state != READY:
        return f"would be resumed after {record.state}"
    if changes(operations):
        return "would be repaired"
    return f"would be repaired: {drift}" if drift else _SAME


def _drift(backend: BottleBackend, record: BottleRecord, launch: Launch) -> str:
    """Say what is wrong although every object is there; only a bottle that is ready and whole can be asked."""
    if record.state != READY or not record.plan_json:
        return ""
    previous = backend.load_plan(record.plan_json)
    whole = not changes(diff(previous, backend.observe(launch), launch))
    return backend.drift(previous, launch) if whole else ""


def _record(directory: Path, bottle: str) -> BottleRecord | None:
    """Return the record of a bottle that lives."""
    with reading(directory) as journal:
        record = journal.record(bottle) if journal else None
    return record if record is not None and record.launch and record.state != TORN_DOWN else None


def _fresh(spec: BottleSpec, here: Host) -> tuple[BottleBackend, str]:
    choice = choose(spec.manifest.backend, here)
    return make_backend(choice.name, here, {}), choice.reason


def _nobody(here: Host, spec: BottleSpec) -> Launch:
    slug = naming.slug(here.root_id, spec.project, spec.agent)
    return Launch(root=here.root_id, bottle=spec.bottle, launch="", slug=slug, epoch=0)


def _refusals(spec: BottleSpec, record: BottleRecord) -> list[str]:
    notes = []
    if record.manifest_path != spec.manifest_path:
        notes.append(f"apply will refuse: this bottle was made from {record.manifest_path}; --name gives another name")
    if spec.manifest.backend not in {"auto", record.backend}:
        notes.append(f"apply will refuse: this bottle lives on the backend {record.backend}; destroy it first")
    if not record.down and not takes_over(load_definition(), record):
        notes.append("apply will refuse: another version of the machine made this launch; destroy it first")
    return notes
