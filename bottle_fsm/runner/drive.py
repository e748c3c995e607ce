"""Drive: takes one launch through its machine. Intent → observe → act → verify → done; memory follows disk."""

from __future__ import annotations

import random
import time
from typing import Final

from bottle_fsm.errors import BottleError, DriftError, LockLostError, StepTimeoutError, StoreError, UnexpectedError
from bottle_fsm.failpoints import hit
from bottle_fsm.machine.definition import Retry, Transition
from bottle_fsm.machine.lifecycle import Lifecycle
from bottle_fsm.model import Json
from bottle_fsm.plan.diff import unmet
from bottle_fsm.runner.registry import EFFECTS
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.settle import settle
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.runner.stop import NeverStop
from bottle_fsm.store import kinds

MAX_REPAIRS: Final = 3
"""How often one run goes back because an earlier state's promise broke, before it gives up."""


class PromiseBrokenError(DriftError):
    """An earlier state's invariant does not hold any more; the drive repairs it."""


class Drive:
    """One process's work on one launch."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._definition = session.runtime.definition
        self._stop = session.runtime.stop
        self._attempt = 1
        self._cause = ""
        self._extra: Json = {}
        self._spec = ""
        self._collected: Json = {}
        self._lifecycle = Lifecycle(self._definition, self, state=session.record.state)

    @property
    def state(self) -> str:
        """The launch's state."""
        return self._lifecycle.state

    # -- going up ----------------------------------------------------------------------------------------------------

    def up(self, cause: str) -> None:
        """Fire forward transitions until the last one before the final state is reached.

        Raises:
            BottleError: the error of the attempt after which no retry is declared.
        """
        repairs = 0
        while (transition := self._definition.forward(self.state)) is not None:
            try:
                self._fire(transition, cause)
            except PromiseBrokenError as broken:
                repairs += 1
                if repairs > MAX_REPAIRS:
                    raise
                self.repair(broken.problem)
                cause = "repair"

    def repair(self, cause: str) -> None:
        """Go back to the planned state, so that the way up adopts what is well and mends what is not."""
        self._fire(self._definition.transition("repair"), cause)

    def revise(self, cause: str, spec: str, spec_json: Json) -> None:
        """Go back to the beginning with another spec, recorded with the move."""
        self._extra, self._spec = {"spec": spec_json}, spec
        self._fire(self._definition.transition("revise"), cause)
        self._extra, self._spec = {}, ""

    # -- going down --------------------------------------------------------------------------------------------------

    def down(self, cause: str) -> None:
        """Tear the launch down. A first signal does not stop this any more.

        Raises:
            TeardownIncompleteError: something is left.
        """
        self._stop = NeverStop()
        self._fire(self._definition.transition("tear_down"), cause)

    def sweep(self) -> None:
        """Remove what turned up after this launch was torn down; its state does not move.

        Raises:
            TeardownIncompleteError: something is left.
        """
        transition = self._definition.transition("tear_down")
        steps = RunnerSteps(self._session, transition, source=self.state, attempt=1, stop=NeverStop())
        EFFECTS[transition.effect](self._session, steps)

    # -- one transition ----------------------------------------------------------------------------------------------

    def _fire(self, transition: Transition, cause: str) -> None:
        started = time.monotonic()
        retry = transition.retry
        self._cause = cause
        for attempt in range(1, retry.max_attempts + 1):
            settle(self._session, self._stop)
            self._attempt = attempt
            self._collected = {}
            try:
                self._attempt_once(transition)
            except (LockLostError, StoreError):
                raise
            except BottleError as error:
                wait = _wait(retry, attempt)
                again = (
                    error.code in retry.on
                    and attempt < retry.max_attempts
                    and time.monotonic() - started + wait < transition.deadline
                )
                self._failed(transition, error, wait=wait if again else 0.0)
                hit("failed.after", transition.trigger)
                if not again:
                    raise
                hit("retry.before", transition.trigger)
                self._stop.sleep(wait)
            else:
                return

    def _attempt_once(self, transition: Transition) -> None:
        """Fire; what nobody expected becomes an error of ours, so that it is recorded and compensated as any other."""
        try:
            self._lifecycle.fire(transition.trigger)
        except BottleError:
            raise
        except Exception as fault:
            raise UnexpectedError(
                f"{type(fault).__name__}: {fault}",
                place=self._place(transition),
                hint="This is a fault of bottle-fsm; --debug shows where.",
            ) from fault

    def _failed(self, transition: Transition, error: BottleError, *, wait: float) -> None:
        evidence = {**self._collected} | ({"retry_in": round(wait, 3)} if wait else {})
        evidence.pop("plan", None)
        self._session.commit(
            kinds.FAILED,
            trigger=transition.trigger,
            source=self.state,
            dest=transition.dest,
            attempt=self._attempt,
            cause=str(error),
            error=error.code,
            evidence=evidence,
        )

    # -- the machine's hooks -----------------------------------------------------------------------------------------

    def intent(self, transition: Transition, source: str) -> None:
        """Commit the intent; the journal compares the epoch in the same transaction."""
        self._stop.check()
        hit("intent.before", transition.trigger)
        self._session.commit(
            kinds.INTENT,
            trigger=transition.trigger,
            source=source,
            dest=transition.dest,
            attempt=self._attempt,
            cause=self._cause,
        )
        hit("intent.after", transition.trigger)

    def perform(self, transition: Transition, source: str) -> None:
        """Look, act, look again, commit the outcome."""
        session = self._session
        if transition.needs and not session.backend.intercepts_tls:
            self._outcome(kinds.SKIPPED, transition, source, cause=session.backend.no_interception_reason)
            return
        started = time.monotonic()
        steps = RunnerSteps(session, transition, source=source, attempt=self._attempt, stop=self._stop)
        self._collected = steps.collected
        upward = transition.observe and transition.dest != self._definition.final
        if upward:
            self._expect(source, PromiseBrokenError)
        if transition.effect:
            session.check_owner()
            EFFECTS[transition.effect](session, steps)
        if upward:
            self._expect(transition.dest, DriftError)
            if steps.remaining() <= 0:
                raise StepTimeoutError(
                    f"took longer than {transition.attempt_timeout:g} s", place=self._place(transition)
                )
        self._outcome(kinds.DONE, transition, source, cause=self._cause, duration=time.monotonic() - started)

    def _outcome(self, kind: str, transition: Transition, source: str, *, cause: str, duration: float = 0.0) -> None:
        fields = {"spec": self._spec} if self._spec else {}
        hit("done.before", transition.trigger)
        self._session.commit(
            kind,
            trigger=transition.trigger,
            source=source,
            dest=transition.dest,
            attempt=self._attempt,
            cause=cause,
            evidence={**self._collected, **self._extra},
            duration=duration,
            **fields,
        )
        hit("done.after", transition.trigger)

    def _expect(self, state: str, error: type[DriftError]) -> None:
        """Compare the world with what `state` and all states before it promise."""
        session = self._session
        promised = self._definition.reached_by(state)
        wrong = unmet(session.plan, session.observe(), session.launch(), promised)
        if wrong:
            raise error("; ".join(f"{o.role} {o.name}: {o.cause}" for o in wrong), place=f"{session.bottle} {state}")

    def _place(self, transition: Transition) -> str:
        return f"{self._session.bottle} {transition.dest}"


def _wait(retry: Retry, attempt: int) -> float:
    """Return the seconds before the attempt after `attempt`, varied by the declared jitter."""
    spread = random.uniform(1 - retry.jitter, 1 + retry.jitter)  # noqa: S311 - spreads retries, guards nothing
    return retry.interval * retry.backoff ** (attempt - 1) * spread
