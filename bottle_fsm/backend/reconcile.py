"""From what shall be there and what is there to what is done, for backends whose objects are made and started whole.

Each sub-step looks for itself; an object is adopted, started, made, made again or taken away. Not its duty: how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from bottle_fsm.errors import NameTakenError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.naming import Labels
from bottle_fsm.plan.bottle_plan import PlannedObject
from bottle_fsm.plan.diff import Operation
from bottle_fsm.steps import Steps


class Reconciler(ABC):
    """One launch's objects in one world, and the runner's end."""

    launch: Launch
    steps: Steps

    @abstractmethod
    def create(self, target: PlannedObject, labels: Labels) -> Resource:
        """Make an object and return it."""

    @abstractmethod
    def start(self, object_id: str, target: PlannedObject, cause: str) -> None:
        """Start an object that runs, as a sub-step."""

    @abstractmethod
    def remove(self, found: Resource, *, cause: str) -> None:
        """Remove an object, as a sub-step, and see that it is gone."""

    def carry_out(self, operations: Iterable[Operation]) -> None:
        """Do what was decided.

        Raises:
            NameTakenError: a foreign object has a name that is wanted.
        """
        for operation in operations:
            self._one(operation)

    def _one(self, operation: Operation) -> None:
        target, found = operation.target, operation.found
        if operation.action == "refuse":
            hint = "Rename or remove it."
            raise NameTakenError(f"{operation.name}: {operation.cause}", place=self.launch.bottle, hint=hint)
        if target is None:
            if found is not None:
                self.remove(found, cause=operation.cause)
        elif found is not None and operation.action in {"adopt", "start"}:
            self._adopt(found, operation.cause)
            if operation.action == "start":
                self.start(found.id, target, operation.cause)
        else:
            self._make(target, operation)

    def _adopt(self, found: Resource, cause: str) -> None:
        if any(r.id == found.id for r in self.steps.resources()):
            return
        with self.steps.act(f"adopt {found.role}", cause=cause, role=found.role) as step:
            step.made(found)

    def _make(self, target: PlannedObject, operation: Operation) -> None:
        found = operation.found
        if found is not None:
            if target.precious and found.state != "created":  # one that never ran holds no work
                self.steps.consent(
                    f"{found.name} must be made again ({operation.cause}); what the agent changed in it is lost",
                    hint="Save it first: `bottle-fsm cp`; then say --yes",
                )
            self.remove(found, cause=operation.cause)
        with self.steps.act(f"create {target.role}", cause=operation.cause, role=target.role) as step:
            labels = Labels(
                root=self.launch.root,
                bottle=self.launch.bottle,
                launch=self.launch.launch,
                role=target.role,
                step=f"create {target.role}",
                spec=target.spec(self.steps.facts),
                epoch=self.steps.epoch,
            )
            made = self.create(target, labels)
            step.made(made)
        if target.runs:
            self.start(made.id, target, operation.cause)
