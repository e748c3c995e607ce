"""What people ask for, for one bottle: apply, resume, destroy. Decides which way to go; `drive` goes it."""

from __future__ import annotations

import signal
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bottle_fsm import naming
from bottle_fsm.errors import (
    BottleError,
    DecisionNeededError,
    InterruptedLaunchError,
    LaunchFailedError,
    LockLostError,
    ManifestError,
    StoreError,
    TeardownIncompleteError,
)
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.places import WORKSPACE
from bottle_fsm.plan.diff import changed_keys, diff, unmet
from bottle_fsm.runner.decisions import bring_out
from bottle_fsm.runner.drive import Drive
from bottle_fsm.runner.session import Runtime, Session, session
from bottle_fsm.runner.upgrade import go_on, going_down
from bottle_fsm.store import kinds
from bottle_fsm.store.record import TORN_DOWN, BottleRecord

OnFailure = Literal["teardown", "keep"]
READY_STATE = "provisioned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a verb ended well for one bottle: what was done, in a word, and the record afterwards."""

    action: Literal[
        "launched", "resumed", "unchanged", "repaired", "revised", "torn_down", "nothing", "proved", "untested"
    ]
    record: BottleRecord


@dataclass(frozen=True, slots=True)
class Wish:
    """What `apply` asks for: the spec, on which backend, and what to do when it fails."""

    spec: BottleSpec
    backend: str
    on_failure: OnFailure = "teardown"


def apply(runtime: Runtime, wish: Wish, *, lock_timeout: float = 0.0) -> Outcome:
    """Bring a bottle to what its manifest says: launch, resume, repair, revise, or nothing.

    Raises:
        LaunchFailedError: it failed, and was torn down or kept as asked.
        DecisionNeededError: a person has to decide or to give a value; the launch is kept.
        LockHeldError, LockLostError: another process works on it.
    """
    bottle = wish.spec.bottle
    with session(runtime, bottle, command="apply", lock_timeout=lock_timeout) as owned:
        record = owned.record
        _check_origin(record, wish)
        if record.launch and record.state != TORN_DOWN and record.down:
            _tear_down(owned, "apply finishes the teardown that was begun")
        if owned.record.state in {"", TORN_DOWN}:
            _sweep_late(owned)
            _declare(owned, wish)
            return _go_up(owned, "apply", wish.on_failure, "launched")
        go_on(owned)
        if record.spec != wish.spec.digest:
            return _revise(owned, wish)
        return _continue(owned, "apply", wish.on_failure)


def resume(runtime: Runtime, bottle: str, *, on_failure: OnFailure | None = None, lock_timeout: float = 0.0) -> Outcome:
    """Go on with an interrupted launch, up or down, from the store alone.

    Raises:
        BottleError: as `apply`.
    """
    with session(runtime, bottle, command="resume", lock_timeout=lock_timeout) as owned:
        record = owned.record
        if record.state in {"", TORN_DOWN}:
            _sweep_late(owned)
            return Outcome("nothing", owned.record)
        if record.down:
            _tear_down(owned, "resume finishes the teardown that was begun")
            return Outcome("torn_down", owned.record)
        go_on(owned)
        policy: OnFailure = on_failure or ("keep" if record.on_failure == "keep" else "teardown")
        return _continue(owned, "resume", policy)


def destroy(
    runtime: Runtime, bottle: str, *, save: Path | None = None, discard: bool = False, lock_timeout: float = 0.0
) -> Outcome:
    """Take a bottle away; `save` brings its workspace out first, `discard` says that its work may go.

    Raises:
        DecisionNeededError: the bottle was provisioned once and nobody agreed that its work may go.
        TeardownIncompleteError: something is left.
    """
    with session(runtime, bottle, command="destroy", lock_timeout=lock_timeout) as owned:
        record = owned.record
        if record.state in {"", TORN_DOWN}:
            _sweep_late(owned)
            return Outcome("nothing", owned.record)
        if save is not None:
            owned.backend.bottle(owned.launch()).copy_out(WORKSPACE, save)
        elif record.ever_provisioned and not record.down and not discard:
            _ask_to_destroy(owned)
        _tear_down(owned, "destroy")
        return Outcome("torn_down", owned.record)


# -- ways ------------------------------------------------------------------------------------------------------------


def _declare(owned: Session, wish: Wish) -> None:
    runtime = owned.runtime
    spec = wish.spec
    definition = runtime.definition
    runtime.journal.ensure_machine(definition.version, definition.raw)
    owned.begin()
    owned.commit(
        kinds.DECLARED,
        launch=uuid.uuid4().hex[:12],
        machine=definition.version,
        spec=spec.digest,
        dest=definition.initial,
        cause="apply",
        evidence={
            "spec": spec.to_json(),
            "slug": naming.slug(runtime.root.root_id, spec.project, spec.agent),
            "backend": wish.backend,
            "manifest_path": spec.manifest_path,
            "on_failure": wish.on_failure,
        },
    )


def _continue(owned: Session, cause: str, on_failure: OnFailure) -> Outcome:
    """Go on with a launch whose spec is as recorded."""
    record = owned.record
    if record.state != READY_STATE:
        return _go_up(owned, cause, on_failure, "resumed")
    broken = _drift(owned)
    if not broken:
        bring_out(owned, owned.backend)
        owned.commit(kinds.OBSERVED, cause="as recorded", evidence={"as_recorded": True})
        return Outcome("unchanged", owned.record)
    Drive(owned).repair(broken)
    return _go_up(owned, "repair", on_failure, "repaired")


def _drift(owned: Session) -> str:
    """Say what is not as a provisioned bottle promises; empty when all is well."""
    backend, launch, plan = owned.backend, owned.launch(), owned.plan
    wrong = unmet(plan, owned.observe(), launch, owned.runtime.definition.order)
    if wrong:
        return "; ".join(f"{o.role} {o.name}: {o.cause}" for o in wrong)
    return backend.drift(plan, launch)


def _revise(owned: Session, wish: Wish) -> Outcome:
    """Take a changed manifest over: adopt what it leaves alone, make again what it changes."""
    record = owned.record
    if wish.backend != record.backend:
        raise DecisionNeededError(
            f"this bottle lives on the backend {record.backend}, the manifest now says {wish.backend}",
            place=owned.bottle,
            hint=f"Run `bottle-fsm destroy {owned.bottle}` first, or go back to backend: {record.backend}.",
        )
    cause = "manifest changed: " + ", ".join(sorted(changed_keys(record.spec_json, wish.spec.to_json(), depth=6)))
    _ask_to_replace(owned, wish)
    if record.state == owned.runtime.definition.initial:
        _tear_down(owned, cause)
        _declare(owned, wish)
    else:
        Drive(owned).revise(cause, wish.spec.digest, wish.spec.to_json())
    return _go_up(owned, cause, wish.on_failure, "revised")


def _ask_to_replace(owned: Session, wish: Wish) -> None:
    """Before anything moves: a changed creation-time input of a precious object needs a person's yes."""
    record = owned.record
    if not record.ever_provisioned or not record.plan_json:
        return
    before, launch = owned.plan, owned.launch()
    after = owned.backend.prepare(wish.spec)
    operations = diff(after, owned.observe(), launch, before)
    losing = [o for o in operations if o.action == "replace" and o.target is not None and o.target.precious]
    for operation in losing:
        work = owned.backend.unsaved_work(launch) or "no change in its workspace was found"
        owned.runtime.people.consent(
            owned.bottle,
            f"{operation.name} has to be made again ({operation.cause}); {work}",
            hint="Save the work with `bottle-fsm cp`, then run apply again with --yes.",
        )


def _go_up(
    owned: Session, cause: str, on_failure: OnFailure, action: Literal["launched", "resumed", "repaired", "revised"]
) -> Outcome:
    try:
        Drive(owned).up(cause)
    except (LockLostError, StoreError):
        raise
    except InterruptedLaunchError as stopped:
        if stopped.signum == signal.SIGHUP or _keeps(owned, on_failure):
            _keep(owned, stopped)
        else:
            _tear_down(owned, f"signal {stopped.signum}")
        raise
    except DecisionNeededError as needed:
        _keep(owned, needed)
        raise
    except BottleError as error:
        _after_failure(owned, error, on_failure)
    return Outcome(action, owned.record)


def _after_failure(owned: Session, error: BottleError, on_failure: OnFailure) -> None:
    state = owned.record.state
    if _keeps(owned, on_failure):
        _keep(owned, error)
        raise LaunchFailedError(
            f"{error}",
            place=f"{owned.bottle} after {state}",
            hint=f"It was kept as it is. `bottle-fsm resume {owned.bottle}` goes on, `destroy` takes it away.",
        ) from error
    try:
        _tear_down(owned, f"failed after {state}")
    except BottleError as leftover:
        raise TeardownIncompleteError(
            f"the launch failed ({error}), and so did its teardown: {leftover}", place=owned.bottle
        ) from leftover
    if isinstance(error, ManifestError):
        raise error
    raise LaunchFailedError(
        f"{error}", place=f"{owned.bottle} after {state}", hint="Everything of this launch was taken away again."
    ) from error


def _tear_down(owned: Session, cause: str) -> None:
    try:
        if owned.record.plan_json:
            owned.backend.check_endpoint(owned.plan)
        with going_down(owned):
            Drive(owned).down(cause)
    except (TeardownIncompleteError, LockLostError, StoreError, DecisionNeededError):
        raise
    except BottleError as error:
        raise TeardownIncompleteError(
            f"the teardown did not finish: {error}",
            place=owned.bottle,
            hint=f"Run `bottle-fsm destroy {owned.bottle}` to go on.",
        ) from error


def _keeps(owned: Session, on_failure: OnFailure) -> bool:
    return on_failure == "keep" or owned.record.ever_provisioned


def _keep(owned: Session, error: BottleError) -> None:
    owned.commit(kinds.KEPT, source=owned.record.state, cause=str(error), error=error.code)


def _sweep_late(owned: Session) -> None:
    """Remove what a request in flight made after its launch was torn down; the launch's record stays closed."""
    record = owned.record
    if not record.launch or not record.plan_json or not owned.observe().ours:
        return
    Drive(owned).sweep()


# -- questions -------------------------------------------------------------------------------------------------------


def _check_origin(record: BottleRecord, wish: Wish) -> None:
    if not record.launch or record.state == TORN_DOWN or record.manifest_path == wish.spec.manifest_path:
        return
    raise DecisionNeededError(
        f"a bottle of this name was made from {record.manifest_path}, not from {wish.spec.manifest_path}",
        place=record.bottle,
        hint="Give this one another name with --name, or destroy the other first.",
    )


def _ask_to_destroy(owned: Session) -> None:
    try:
        work = owned.backend.unsaved_work(owned.launch())
    except DecisionNeededError:
        raise
    except BottleError as error:
        work = f"its workspace cannot be looked at ({error.problem})"
    owned.runtime.people.consent(
        owned.bottle,
        f"destroys {owned.bottle}; {work or 'no change in its workspace was found'}",
        hint="Give --yes to agree, or --save DIR to bring the workspace out first.",
    )
