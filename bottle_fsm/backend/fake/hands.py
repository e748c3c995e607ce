"""Hands: what one effect does to the simulated world, sub-step by sub-step, each with its own look.

Not its duty: which objects belong to which effect (`backend`), and how the world behaves (`world`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.fake.look import gone, look, one
from bottle_fsm.backend.fake.world import FakeWorld
from bottle_fsm.errors import DriftError, NameTakenError, SidecarExitedError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.naming import Labels
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject
from bottle_fsm.plan.diff import Operation, diff
from bottle_fsm.steps import Steps

_NETWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    naming.ROLE_GUARD: (naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE),
    naming.ROLE_INTERCEPTOR: (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN),
    naming.ROLE_AGENT: (naming.ROLE_NET_INSIDE,),
}


@dataclass(frozen=True)
class Hands:
    """A world, a launch, and the runner's end."""

    world: FakeWorld
    launch: Launch
    steps: Steps

    def bring(self, plan: BottlePlan, roles: Sequence[str]) -> None:
        """Bring the objects of some roles to what the plan says."""
        for operation in diff(plan, look(self.world, self.launch), self.launch):
            if operation.role in roles:
                self._carry_out(operation)

    def take_away(self, roles: Sequence[str]) -> None:
        """Remove the objects of some roles, in this order; those of an earlier launch under our names as well."""
        for role in roles:
            found = look(self.world, self.launch).of_role(role)
            for resource in found:
                self._remove(resource, "teardown")
            if not found:
                self.steps.skip(f"remove {role}", reason="not found")

    def check(self, role: str) -> None:
        """See that a container of ours runs.

        Raises:
            DriftError: it is not there. SidecarExitedError: it ended.
        """
        found = one(self.world, self.launch, role)
        if found is None:
            raise DriftError(f"the {role} is gone", place=self.launch.bottle)
        if found.state != "running":
            raise SidecarExitedError(f"the {role} ended with code {found.exit_code}", place=self.launch.bottle)

    def _carry_out(self, operation: Operation) -> None:
        target, found = operation.target, operation.found
        if operation.action == "refuse":
            hint = "Rename or remove it."
            raise NameTakenError(f"{operation.name}: {operation.cause}", place=self.launch.bottle, hint=hint)
        if operation.action == "adopt" and found is not None:
            self._adopt(found, operation.cause)
        elif operation.action == "start" and found is not None:
            self._start(found.id, operation.role, operation.cause)
        elif target is None and found is not None:
            self._remove(found, operation.cause)
        elif target is not None:
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
                question = f"{operation.name} has to be made again ({operation.cause})"
                self.steps.consent(question, hint="Give --yes to agree.")
            self._remove(found, operation.cause)
        made = self._create(target, operation.cause)
        if target.runs:
            self._start(made, target.role, operation.cause)

    def _create(self, target: PlannedObject, cause: str) -> str:
        with self.steps.act(f"create {target.role}", cause=cause, role=target.role) as step:
            labels = Labels(
                root=self.launch.root,
                bottle=self.launch.bottle,
                launch=self.launch.launch,
                role=target.role,
                step=target.state,
                spec=target.spec(self.steps.facts),
                epoch=self.steps.epoch,
            )
            networks = [self._network(role) for role in _NETWORKS.get(target.role, ())]
            made = self.world.create(target.kind, target.name, labels.as_dict(), networks=networks)
            step.made(self._seen(made))
        return made

    def _start(self, object_id: str, role: str, cause: str) -> None:
        with self.steps.act(f"start {role}", cause=cause, role=role) as step:
            self.world.start(object_id, healthy=True)
            self.check(role)
            step.made(self._seen(object_id))

    def _remove(self, found: Resource, cause: str) -> None:
        with self.steps.act(f"remove {found.role}", cause=cause, role=found.role) as step:
            self.world.remove(found.id)
            step.made(gone(found))

    def _network(self, role: str) -> str:
        found = one(self.world, self.launch, role)
        if found is None:
            raise DriftError(f"the {role} is gone", place=self.launch.bottle)
        return found.id

    def _seen(self, object_id: str) -> Resource:
        return next(r for r in look(self.world, self.launch).resources if r.id == object_id)
