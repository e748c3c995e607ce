"""Hands: what one effect does to the simulated world, sub-step by sub-step, each with its own look.

Not its duty: which objects belong to which effect (`backend`), and how the world behaves (`world`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.fake.look import gone, look, one
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.backend.reconcile import Reconciler
from bottle_fsm.backend.undo import remove_role
from bottle_fsm.errors import DriftError, SidecarExitedError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.naming import Labels
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject
from bottle_fsm.plan.diff import diff
from bottle_fsm.steps import Steps, removal

_NETWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    naming.ROLE_GUARD: (naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE),
    naming.ROLE_INTERCEPTOR: (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN),
    naming.ROLE_AGENT: (naming.ROLE_NET_INSIDE,),
}


@dataclass(frozen=True)
class Hands(Reconciler):
    """A world, a launch, and the runner's end."""

    world: FakeWorld
    launch: Launch
    steps: Steps

    def bring(self, plan: BottlePlan, roles: Sequence[str]) -> None:
        """Bring the objects of some roles to what the plan says."""
        operations = diff(plan, look(self.world, self.launch), self.launch)
        self.carry_out(o for o in operations if o.role in roles)

    def take_away(self, roles: Sequence[str]) -> None:
        """Remove the objects of some roles, in this order; those of an earlier launch under our names as well."""
        for role in roles:
            remove_role(
                role,
                self.steps,
                look=lambda: look(self.world, self.launch),
                remove=lambda found: self.remove(found, cause="teardown"),
            )

    def check(self, role: str) -> None:
        """See that a container of ours runs.

        Raises:
            DriftError: it is not there. SidecarExitedError: it ended.
        """
        found = self._found(role)
        if found.state != "running":
            raise SidecarExitedError(f"the {role} ended with code {found.exit_code}", place=self.launch.bottle)

    def create(self, target: PlannedObject, labels: Labels) -> Resource:
        """Make an object in the world."""
        networks = [self._found(role).id for role in _NETWORKS.get(target.role, ())]
        made = self.world.create(target.kind, target.name, labels.as_dict(), networks=networks)
        return self._seen(made)

    def start(self, object_id: str, target: PlannedObject, cause: str) -> None:
        """Start a container."""
        with self.steps.act(f"start {target.role}", cause=cause, role=target.role) as step:
            self.world.start(object_id, healthy=True)
            self.check(target.role)
            step.made(self._seen(object_id))

    def remove(self, found: Resource, *, cause: str) -> None:
        """Remove an object from the world."""
        with self.steps.act(removal(found.role), cause=cause, role=found.role) as step:
            self.world.remove(found.id)
            step.made(gone(found))

    def _found(self, role: str) -> FakeObject:
        found = one(self.world, self.launch, role)
        if found is None:
            raise DriftError(f"the {role} is gone", place=self.launch.bottle)
        return found

    def _seen(self, object_id: str) -> Resource:
        return next(r for r in look(self.world, self.launch).resources if r.id == object_id)
