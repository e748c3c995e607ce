"""MemorySteps: the runner's end of an effect, kept in memory, for tests that drive effects one by one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bottle_fsm.errors import DecisionNeededError, StepTimeoutError
from bottle_fsm.model import Resource
from bottle_fsm.secret import Secret


class MemoryStep:
    """One sub-step: what its body told."""

    def __init__(self, steps: MemorySteps) -> None:
        self._steps = steps
        self.resources: list[Resource] = []
        self.findings: dict[str, Any] = {}

    def made(self, resource: Resource) -> None:
        self.resources.append(resource)

    def fact(self, name: str, value: str) -> None:
        self._steps.known[name] = value

    def evidence(self, name: str, value: Any) -> None:
        self.findings[name] = value


class DiedError(Exception):
    """The launcher was killed at a sub-step that a test chose."""


class MemorySteps:
    """Keeps what a runner would commit; `die_before` and `die_after` name a sub-step at which the launcher dies."""

    def __init__(self, *, epoch: int = 1, secrets: Mapping[str, str] | None = None, seconds: float = 120.0) -> None:
        self.known: dict[str, str] = {}
        self.world: dict[str, Resource] = {}
        self.done: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.found: dict[str, Any] = {}
        self.agreed: list[str] = []
        self.agrees = False
        self.die_before = ""
        self.die_after = ""
        self.seed = "launch"
        self._epoch = epoch
        self._secrets = dict(secrets or {})
        self._deadline = time.monotonic() + seconds

    @property
    def facts(self) -> Mapping[str, str]:
        return self.known

    @property
    def epoch(self) -> int:
        return self._epoch

    @contextmanager
    def act(self, name: str, *, cause: str, role: str = "") -> Iterator[MemoryStep]:
        if name == self.die_before:
            raise DiedError(name)
        step = MemoryStep(self)
        yield step
        if name == self.die_after:
            raise DiedError(name)  # the effect was carried out, its outcome never committed
        for resource in step.resources:
            if resource.state == "absent":
                self.world.pop(resource.id, None)
            else:
                self.world[resource.id] = resource
        self.found |= step.findings
        self.done.append((name, cause))

    def skip(self, name: str, *, reason: str) -> None:
        self.skipped.append((name, reason))

    def evidence(self, name: str, value: Any) -> None:
        self.found[name] = value

    def say(self, text: str) -> None:
        self.said.append(text)

    def remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self.remaining()))
        if self.remaining() <= 0:
            raise StepTimeoutError("the attempt's time is over")

    def secret(self, name: str) -> Secret:
        if name not in self._secrets:
            raise DecisionNeededError(f"{name} is not available now")
        return Secret(self._secrets[name])

    def from_host(self, template: str) -> Secret:
        return Secret(template)

    def token(self, purpose: str) -> Secret:
        return Secret(hashlib.sha256(f"{self.seed} {purpose}".encode()).hexdigest())

    def ask(self, question: str) -> Secret:
        raise DecisionNeededError(question)

    def consent(self, question: str, *, hint: str) -> None:
        self.agreed.append(question)
        if not self.agrees:
            raise DecisionNeededError(question, hint=hint)

    def resources(self) -> Sequence[Resource]:
        return tuple(self.world.values())

    def names(self) -> list[str]:
        """Return the names of the sub-steps that were done."""
        return [name for name, _ in self.done]
