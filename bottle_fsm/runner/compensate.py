"""Teardown: attempted transitions are undone in reverse, each undo journalled; then proof that nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bottle_fsm.errors import (
    BackendError,
    BottleError,
    DecisionNeededError,
    LockLostError,
    StoreError,
    TeardownIncompleteError,
)
from bottle_fsm.failpoints import hit
from bottle_fsm.machine.definition import Transition
from bottle_fsm.model import Observed
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.store import kinds

Compensation = Callable[[Session, RunnerSteps], None]


def compensate(session: Session, steps: RunnerSteps, compensations: Mapping[str, Compensation]) -> None:
    """Undo every attempted transition, newest first, then look twice, the backend's settle time apart.

    Objects that no attempted transition accounts for (made by a request that arrived late) are removed as well.
    Nothing is undone before a first look has shown that the journal knows who made what is there.

    Raises:
        DecisionNeededError: it does not; nothing was touched.
        TeardownIncompleteError: something is left; it is named.
        BottleError: the one compensation that failed, when it did and nothing else is known to be left.
    """
    definition = session.runtime.definition
    touched = _shows_something(session) or bool(session.record.plan_json)
    ups = [t for t in definition.transitions if t.compensate]
    attempted = [definition.transition(t) for t in session.record.attempted]
    failures = [_undo(session, steps, t, compensations) for t in reversed(attempted) if t.compensate]
    if touched and session.observe().ours:
        failures += [_undo(session, steps, t, compensations) for t in reversed(ups)]
    failed = [f for f in failures if f is not None]
    if touched:  # else no plan was recorded and nothing is seen: no effect was ever begun
        _prove_empty(session, steps, failed[0] if failed else None)


def _shows_something(session: Session) -> bool:
    """Look once; a world that does not answer shows nothing, and whoever needs it next says so."""
    try:
        return bool(session.observe().ours)
    except BackendError:
        return False


def _undo(
    session: Session, steps: RunnerSteps, transition: Transition, compensations: Mapping[str, Compensation]
) -> BottleError | None:
    """Run one compensation; return its error instead of raising it, so that the others get their turn."""
    fields = {"trigger": transition.trigger, "source": transition.dest, "dest": transition.source[0]}
    hit("undo.intent.before", transition.trigger)
    session.commit(kinds.UNDO_INTENT, cause=transition.compensate, **fields)
    hit("undo.intent.after", transition.trigger)
    started = time.monotonic()
    try:
        compensations[transition.compensate](session, steps)
        hit("undo.acted", transition.trigger)
    except (LockLostError, StoreError, DecisionNeededError):
        raise
    except BottleError as error:
        session.commit(kinds.UNDO_FAILED, cause=str(error), error=error.code, **fields)
        return error
    session.commit(kinds.UNDO_DONE, cause=transition.compensate, duration=time.monotonic() - started, **fields)
    hit("undo.done.after", transition.trigger)
    return None


def _prove_empty(session: Session, steps: RunnerSteps, failure: BottleError | None) -> None:
    looks = [_look(session, failure)]
    steps.sleep(session.backend.settle)
    looks.append(_look(session, failure))
    session.commit(
        kinds.OBSERVED,
        cause="nothing of this launch is left",
        evidence={"looks": looks, "settle": session.backend.settle},
    )


def _look(session: Session, failure: BottleError | None) -> float:
    observed = session.observe()
    if observed.ours:
        raise _incomplete(session, observed, failure)
    hit("empty.looked")
    return round(time.monotonic(), 6)


def _incomplete(session: Session, observed: Observed, failure: BottleError | None) -> BottleError:
    names = ", ".join(sorted(f"{r.kind} {r.name}" for r in observed.ours))
    if failure is not None and failure.code in session.runtime.definition.transition("tear_down").retry.on:
        return failure
    why = f" ({failure.problem})" if failure is not None else ""
    return TeardownIncompleteError(
        f"left over: {names}{why}",
        place=session.bottle,
        hint=f"Run `bottle-fsm destroy {session.bottle}` to go on.",
    )
