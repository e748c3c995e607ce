"""Work: one effect in progress on an engine. Looks, decides with `plan.diff`, and knows how to make an object go.

Not its duty: how a network or a container is made.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import ConflictError, ObjectGoneError
from bottle_fsm.backend.docker.observe import observe
from bottle_fsm.backend.docker.plan import DockerBottlePlan
from bottle_fsm.backend.undo import remove_role
from bottle_fsm.errors import BackendError, NameTakenError, TransientError
from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.plan.bottle_plan import PlannedObject
from bottle_fsm.plan.diff import Operation, diff
from bottle_fsm.steps import Steps, removal

_LOOKS: Final = 3
_REMOVAL_SECONDS: Final = 30.0
_REMOVAL_POLL: Final = 0.05


@dataclass(frozen=True)
class Ground:
    """Where and for whom: an engine, a launch, and the runner's end. Enough to take things away."""

    engine: Engine
    launch: Launch
    steps: Steps
    settle: float

    def live(self) -> Launch:
        """Return the launch with the facts and objects recorded until now."""
        return replace(self.launch, facts=dict(self.steps.facts), recorded=tuple(self.steps.resources()))

    def look(self, kind: str = "") -> Observed:
        """Observe; objects of one kind only, if one is given."""
        return observe(self.engine, self.live(), kind)

    def remove_role(self, role: str) -> None:
        """Remove every object of a role, and record those that went by themselves."""
        remove_role(role, self.steps, look=self.look, remove=lambda resource: self.remove(resource, cause="undo"))

    def remove(self, resource: Resource, *, cause: str) -> None:
        """Remove one object of ours by id, and see that it is gone."""
        with self.steps.act(removal(resource.role), cause=cause, role=resource.role) as step:
            self._remove(resource)
            step.made(replace(resource, state="absent"))

    def _remove(self, resource: Resource) -> None:
        waited = 0.0
        while True:
            try:
                with self.engine.guarded(f"remove {resource.name}") as api:
                    if resource.kind == "container":
                        api.remove_container(resource.id, v=True, force=True)
                    elif resource.kind == "network":
                        api.remove_network(resource.id)
                    else:
                        api.remove_volume(resource.id)
                # The engine may say yes before the object is gone: asked again, it must not know it.
            except ObjectGoneError:
                return
            except ConflictError:
                if waited >= _REMOVAL_SECONDS:
                    raise
            except BackendError as error:
                raise self._explained(resource, error) from error
            if waited >= _REMOVAL_SECONDS:
                raise TransientError("was removed, but is still there", place=resource.name)
            time.sleep(_REMOVAL_POLL)  # within a sub-step: a signal must not cut it in two
            waited += _REMOVAL_POLL

    def _explained(self, resource: Resource, error: BackendError) -> BackendError:
        """Name a foreign container that keeps a network from being removed."""
        if resource.kind != "network" or "active endpoints" not in error.problem:
            return error
        with self.engine.guarded(f"inspect {resource.name}") as api:
            members = (api.inspect_network(resource.id).get("Containers") or {}).values()
        names = ", ".join(sorted(str(member.get("Name")) for member in members))
        return BackendError(
            f"has members that are not ours: {names}",
            place=resource.name,
            hint=f"Disconnect them: docker network disconnect {resource.name} NAME",
        )


@dataclass(frozen=True)
class Work(Ground):
    """An effect that builds: with the plan."""

    plan: DockerBottlePlan

    def operation(self, role: str) -> Operation:
        """Decide what to do about the one object of a role; duplicates are removed, a foreign one is refused.

        A foreign object under our name may be one of ours whose creation is in flight: it is looked at again.

        Raises:
            NameTakenError: the name is not ours.
        """
        kind = self.plan.object(role).kind
        for look in range(_LOOKS):
            operations = [o for o in diff(self.plan, self.look(kind), self.live()) if o.role == role]
            refused = next((o for o in operations if o.action == "refuse"), None)
            if refused is None:
                break
            if look == _LOOKS - 1:
                raise name_taken(refused.name)
            self.steps.sleep(self.settle)
        wanted = next(o for o in operations if o.target is not None and o.action != "remove")
        for extra in operations:
            if extra.action == "remove" and extra.found is not None:
                self.remove(extra.found, cause=extra.cause)
        return wanted

    def labels(self, target: PlannedObject, step: str) -> dict[str, str]:
        """Return the labels of an object that is made now."""
        return naming.Labels(
            root=self.launch.root,
            bottle=self.launch.bottle,
            launch=self.launch.launch,
            role=target.role,
            step=step,
            spec=target.spec(self.steps.facts),
            epoch=self.steps.epoch,
        ).as_dict()

    def resource(self, target: PlannedObject, object_id: str, *, state: str = "present") -> Resource:
        """Return the record of an object that was made now."""
        return Resource(
            kind=target.kind,
            role=target.role,
            name=target.name,
            id=object_id,
            launch=self.launch.launch,
            spec=target.spec(self.steps.facts),
            epoch=self.steps.epoch,
            state=state,
        )

    def adopt(self, operation: Operation) -> None:
        """Record an object that was found as planned, unless it is recorded already."""
        found = operation.found
        if found is None or any(r.id == found.id and r.state != "absent" for r in self.steps.resources()):
            return
        with self.steps.act(f"adopt {found.role}", cause=operation.cause, role=found.role) as step:
            step.made(found)


def name_taken(name: str) -> NameTakenError:
    """Return the error for a name that somebody else's object has."""
    return NameTakenError(
        "exists and is not ours; it was not touched",
        place=name,
        hint="Rename or remove it, or launch under another name (--name)",
    )
