"""RunnerSteps: the runner's end of one attempt of one effect (see `bottle_fsm.steps`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.errors import DecisionNeededError, StepTimeoutError
from bottle_fsm.failpoints import hit
from bottle_fsm.machine.definition import Transition
from bottle_fsm.manifest.env import SecretSource, fetch_secret, secret_source
from bottle_fsm.model import Json, Resource
from bottle_fsm.runner.decisions import EVIDENCE, bring_out
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.stop import Stop
from bottle_fsm.secret import Secret
from bottle_fsm.steps import removal
from bottle_fsm.store import kinds
from bottle_fsm.traffic.collect import SECONDS
from bottle_fsm.traffic.lines import SOURCES


class _Step:
    """One open sub-step: collects what its outcome will say."""

    def __init__(self, facts: dict[str, str]) -> None:
        self._facts = facts
        self.resources: list[Resource] = []
        self.chosen: dict[str, str] = {}
        self.findings: Json = {}

    def made(self, resource: Resource) -> None:
        self.resources.append(resource)

    def fact(self, name: str, value: str) -> None:
        self.chosen[name] = value
        self._facts[name] = value

    def evidence(self, name: str, value: Any) -> None:
        self.findings[name] = value


class RunnerSteps:
    """One attempt: commits sub-steps, watches deadline and signals, hands out secrets."""

    def __init__(  # noqa: PLR0913 - what an attempt is made of
        self,
        session: Session,
        transition: Transition,
        *,
        source: str,
        attempt: int,
        stop: Stop,
        launch: str = "",
        backend: BottleBackend | None = None,
    ) -> None:
        """Open an attempt; `launch` and `backend` say whose objects it is about, where not the bottle's own launch."""
        self._session = session
        self._backend = backend
        self._transition = transition
        self._source = source
        self._attempt = attempt
        self._stop = stop
        self._launch = {"launch": launch} if launch else {}
        self._deadline = time.monotonic() + transition.attempt_timeout
        self.collected: Json = {}

    @property
    def facts(self) -> Mapping[str, str]:
        """Facts of the launch, live."""
        return MappingProxyType(self._session.facts)

    @property
    def epoch(self) -> int:
        """The lock's epoch."""
        return self._session.epoch

    @contextmanager
    def act(self, name: str, *, cause: str, role: str = "") -> Iterator[_Step]:
        """Commit the intent, run the body, commit the outcome."""
        self._stop.check()
        self._check_time(name)
        evidence: Json = {"step": name, "role": role, **self._before(name, role)}
        hit("step.intent.before", name)
        self._commit(kinds.STEP_INTENT, cause=cause, evidence=evidence)
        hit("step.intent.after", name)
        step = _Step(self._session.facts)
        started = time.monotonic()
        yield step
        hit("step.acted", name)
        found = {**evidence, **step.findings} | ({"facts": step.chosen} if step.chosen else {})
        took = time.monotonic() - started
        self._commit(kinds.STEP_DONE, cause=cause, evidence=found, resources=tuple(step.resources), duration=took)
        hit("step.done.after", name)

    def skip(self, name: str, *, reason: str) -> None:
        """Record that there was nothing to do."""
        self._commit(kinds.STEP_SKIPPED, cause=reason, evidence={"step": name})

    def evidence(self, name: str, value: Any) -> None:
        """Keep a finding for the transition's outcome, be it done or failed."""
        self.collected[name] = value

    def say(self, text: str) -> None:
        """Show progress."""
        self._session.runtime.people.progress(self._session.bottle, text)

    def remaining(self) -> float:
        """Seconds left of this attempt."""
        return max(0.0, self._deadline - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Wait, no longer than the attempt may take."""
        self._stop.sleep(min(seconds, self.remaining()))
        self._check_time("waiting")

    def secret(self, name: str) -> Secret:
        """Resolve a secret variable of the manifest again; it was never stored."""
        session = self._session
        if name not in session.answers:
            reach = session.spec.reach
            if reach is None or name not in reach.env:
                raise DecisionNeededError(f"the manifest has no variable {name}", place=session.bottle)
            source = secret_source(name, reach.env[name])
            environ = session.runtime.host.environ
            session.answers[name] = fetch_secret(source, environ, lambda question: self.ask(question).reveal())
        return session.answers[name]

    def from_host(self, template: str) -> Secret:
        """Fill a text of the manifest in again; it was never stored."""
        source = SecretSource(name="inject", origin=template, asked=False)
        return fetch_secret(source, self._session.runtime.host.environ, None)

    def token(self, purpose: str) -> Secret:
        """Derive a token of this launch from the state root's key."""
        return self._session.runtime.root.token(self._session.record.launch, purpose)

    def ask(self, question: str) -> Secret:
        """Ask a person."""
        return self._session.runtime.people.ask(self._session.bottle, question)

    def consent(self, question: str, *, hint: str) -> None:
        """Ask a person for a yes."""
        self._session.runtime.people.consent(self._session.bottle, question, hint=hint)

    def resources(self) -> Sequence[Resource]:
        """What the journal says exists of this launch."""
        return self._session.launch().recorded

    def _before(self, name: str, role: str) -> Json:
        """Bring out what a sidecar decided before it goes; return what the journal says about that."""
        if role not in SOURCES or name != removal(role):
            return {}
        backend = self._backend or self._session.backend
        launch = self._launch.get("launch", "")
        seconds = min(SECONDS, self.remaining())
        return {EVIDENCE: bring_out(self._session, backend, launch, roles=(role,), whole=True, seconds=seconds)}

    def _check_time(self, what: str) -> None:
        if self.remaining() <= 0:
            raise StepTimeoutError(
                f"{what}: the attempt took longer than {self._transition.attempt_timeout:g} s",
                place=f"{self._session.bottle} {self._transition.dest}",
            )

    def _commit(self, kind: str, **fields: Any) -> None:
        self._session.commit(
            kind,
            trigger=self._transition.trigger,
            source=self._source,
            dest=self._transition.dest,
            attempt=self._attempt,
            **self._launch,
            **fields,
        )
