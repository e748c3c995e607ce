"""Prove: trust gate and egress self-test once more, on a bottle that was handed over. One event holds what was found.

Looks only: the state stays, nothing is mended and nothing taken away, whatever a row says. Not its duty: drift of
objects (`verbs.resume` looks for that and repairs it), and what makes a row fail (`provision`).
"""

from __future__ import annotations

import time
from typing import Any, Final

from bottle_fsm.errors import BackendError, GateError
from bottle_fsm.model import Json
from bottle_fsm.provision.selftest import failure
from bottle_fsm.runner.session import Runtime, Session, session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.runner.verbs import READY_STATE, Outcome
from bottle_fsm.store import kinds
from bottle_fsm.store.findings import SELFTEST, TRUST_MATRIX, UNTESTED
from bottle_fsm.store.record import TORN_DOWN

COMMAND: Final = "selftest"


def prove(runtime: Runtime, bottle: str, *, lock_timeout: float = 0.0) -> Outcome:
    """Let a provisioned bottle prove its trust and its egress again.

    Returns:
        The action `proved`, or `untested` where the backend controls no egress.

    Raises:
        GateError: a row failed, or a part could not be tried. The event with all rows is committed before.
        BackendError: the bottle is not provisioned, or nothing could be tried at all.
        DecisionNeededError: another engine answers, or the world is newer than this journal.
        InterruptedLaunchError: a signal asked to stop; nothing is recorded.
        LockHeldError, LockLostError: another process works on it.
    """
    with session(runtime, bottle, command=COMMAND, lock_timeout=lock_timeout) as owned:
        _check_provisioned(owned)
        owned.observe()
        started = time.monotonic()
        found = _look(owned)
        error = found.error(bottle)
        owned.commit(
            kinds.OBSERVED,
            cause=found.summary(),
            evidence=found.evidence(),
            error=error.code if error else "",
            duration=time.monotonic() - started,
        )
        if error:
            raise error
        return Outcome("proved" if found.rows else "untested", owned.record)


def _check_provisioned(owned: Session) -> None:
    record, bottle = owned.record, owned.bottle
    if record.state == READY_STATE and not record.down:
        return
    if record.state in {"", TORN_DOWN}:
        problem = "no launch of it is up, so there is nothing to test"
        hint = "`bottle-fsm apply MANIFEST` launches it, and tests it before it is handed over"
    elif record.down:
        problem = "its teardown was begun, so there is nothing to test"
        hint = f"`bottle-fsm destroy {bottle}` finishes it"
    else:
        problem = f"is not provisioned: its state is {record.state}"
        hint = f"`bottle-fsm resume {bottle}` goes on with its launch, and tests it before it is handed over"
    raise BackendError(problem, place=bottle, hint=hint)


def _look(owned: Session) -> _Found:
    """Run both parts, the second one too when the first failed: all rows are wanted."""
    backend, plan, launch = owned.backend, owned.plan, owned.launch()
    parts = (
        ("trust_ca", TRUST_MATRIX, "trust: every tool asks the gate", backend.prove_trust),
        ("provision", SELFTEST, "egress: allowed hosts are asked for, other ways out are tried", backend.selftest),
    )
    found = _Found()
    for trigger, table, told, run in parts:
        steps = _Looks(owned, trigger)
        owned.check_owner()
        steps.say(told)
        problem: BackendError | None = None
        try:
            run(plan, launch, steps)
        except BackendError as error:
            problem = error
        owned.runtime.stop.check()
        found.add(table, steps, problem)
    return found


class _Looks(RunnerSteps):
    """The steps of a look: as an attempt's, with its time and its signals, but nothing is committed on the way."""

    def __init__(self, owned: Session, trigger: str) -> None:
        transition = owned.runtime.definition.transition(trigger)
        super().__init__(owned, transition, source=owned.record.state, attempt=1, stop=owned.runtime.stop)
        self.skipped: dict[str, str] = {}

    def _commit(self, kind: str, **fields: Any) -> None:
        """Keep what a step found for the one event at the end."""
        evidence: Json = fields["evidence"]
        if kind == kinds.STEP_SKIPPED:
            self.skipped[evidence["step"]] = fields["cause"]
        self.collected |= evidence


class _Found:
    """What the proof came to: the tables, what was not tested and why, and what failed, in words."""

    def __init__(self) -> None:
        self._tables: dict[str, list[Json]] = {}
        self._untested: dict[str, str] = {}
        self._failed: list[str] = []
        self._untried: list[str] = []
        self._first: BackendError | None = None

    @property
    def rows(self) -> list[Json]:
        """Every row, of both tables."""
        return [row for table in self._tables.values() for row in table]

    def add(self, name: str, steps: _Looks, problem: BackendError | None) -> None:
        """Take in one part: its table, or why there is none, and the error that it ended with."""
        table: list[Json] = steps.collected.get(name, [])
        if table:
            self._tables[name] = table
        elif problem is None and not steps.skipped:
            problem = GateError("came to no row at all", place=name)
        self._untested |= steps.skipped
        failed = [_words(row) for row in table if row["ok"] is False]
        self._failed += failed
        if problem is not None and not failed and str(problem) not in self._untried:
            self._untried.append(str(problem))
        self._first = self._first or problem

    def evidence(self) -> Json:
        """Return what the event holds."""
        return {**self._tables} | ({UNTESTED: self._untested} if self._untested else {})

    def error(self, bottle: str) -> BackendError | None:
        """Return the error to end with; None when nothing failed."""
        if self._first is not None and not self.rows:
            return self._first
        if not self._failed and not self._untried:
            return None
        hint = f"It is left as it is: `bottle-fsm resume {bottle}` mends drift, `bottle-fsm destroy {bottle}` ends it"
        return GateError(self._problem(), place=bottle, hint=hint)

    def summary(self) -> str:
        """Return the event's cause: one line, with the name of every row that failed."""
        if self._failed or self._untried:
            return f"self-test: {self._problem()}"
        if not self.rows:
            return f"self-test: nothing is tested: {'; '.join(self._untested.values())}"
        silent = sum(row["ok"] is None for row in self.rows)
        return f"self-test: no row of {len(self.rows)} failed" + (f"; {silent} proved nothing" if silent else "")

    def _problem(self) -> str:
        count = len(self._failed)
        head = f"{count} of {len(self.rows)} rows failed" if count else "not everything could be tested"
        return f"{head}: {'; '.join([*self._failed, *self._untried])}"


def _words(row: Json) -> str:
    return f"{row['tool']}: {row['detail']}" if "tool" in row else failure(row)
