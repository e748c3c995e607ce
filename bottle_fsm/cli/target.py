"""Target: a recorded bottle as one talks to it: its backend on the recorded endpoint, its launch, its handle.

Takes no lock and writes nothing: exec, attach, cp, logs and looks work beside a running launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.bottle import Bottle
from bottle_fsm.cli.app import App
from bottle_fsm.cli.known import one
from bottle_fsm.cli.launching import host
from bottle_fsm.cli.reading import root_id
from bottle_fsm.errors import BackendError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.store.record import BottleRecord

READY = "provisioned"


@dataclass(frozen=True, slots=True)
class Target:
    """One recorded bottle, with what is needed to reach it."""

    record: BottleRecord
    backend: BottleBackend
    launch: Launch
    plan: BottlePlan

    def bottle(self) -> Bottle:
        """Return the handle into it."""
        return self.backend.bottle(self.launch)


def reach(app: App, word: str, *, unready: bool = False) -> Target:
    """Return the bottle that a word means, for talking to it.

    Args:
        app: the process's options.
        word: its name, or the beginning of it.
        unready: take a bottle that was not handed over, too.

    Raises:
        UsageError: there is no such bottle.
        BackendError: it is not ready, or has no plan yet.
        DecisionNeededError: another engine answers than the one that the plan names.
    """
    record = one(app.directory, word)
    if record.state != READY and not unready:
        raise _not_ready(app, record)
    return target(app.directory, record)


def target(directory: Path, record: BottleRecord) -> Target:
    """Return a recorded bottle, for looking at it.

    Raises:
        BackendError: it has no plan yet, so there is nothing to look at.
        DecisionNeededError: another engine answers than the one that the plan names.
    """
    if not record.plan_json:
        raise BackendError("was never planned, so nothing of it exists", place=record.bottle)
    this = host(root_id(directory), directory)
    backend = make_backend(record.backend, this, record.plan_json.get("endpoint", {}))
    plan = backend.load_plan(record.plan_json)
    backend.check_endpoint(plan)
    return Target(record, backend, launch_of(record, this.root_id), plan)


def launch_of(record: BottleRecord, root: str) -> Launch:
    """Return the launch of a record."""
    return Launch(
        root=root,
        bottle=record.bottle,
        launch=record.launch,
        slug=record.slug,
        epoch=record.epoch,
        facts=dict(record.facts),
        recorded=tuple(Resource.from_json(r) for r in record.resources),
    )


def _not_ready(app: App, record: BottleRecord) -> BackendError:
    resume = app.command("resume", record.bottle)
    return BackendError(
        f"is not ready: its state is {record.state}, and trust and egress were not proved from inside it",
        place=record.bottle,
        hint=f"`{resume}` goes on with its launch; --force enters it as it is",
    )
