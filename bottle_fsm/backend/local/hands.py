"""Hands: what one effect does to the local world, sub-step by sub-step, each with its own look.

Not its duty: which objects belong to which effect (`backend`), and what is in them (`build`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bottle_fsm import naming
from bottle_fsm.backend.local import health, proc
from bottle_fsm.backend.local.bottle import LocalBottle
from bottle_fsm.backend.local.build import SOCKETS, Builder
from bottle_fsm.backend.local.look import look, one, seen
from bottle_fsm.backend.local.places import HEALTH_SOCKET
from bottle_fsm.backend.local.plan import LocalBottlePlan, SandboxPlan
from bottle_fsm.backend.local.world import LocalObject, LocalWorld, end_sandbox, last_lines
from bottle_fsm.backend.reconcile import Reconciler
from bottle_fsm.backend.undo import remove_role
from bottle_fsm.egress.files import GUARD_SOCKET
from bottle_fsm.errors import BackendError, DriftError, SidecarExitedError, StepTimeoutError
from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.naming import Labels
from bottle_fsm.plan.bottle_plan import PlannedObject
from bottle_fsm.plan.diff import Operation, diff
from bottle_fsm.steps import Steps, removal

_POLL = 0.05


@dataclass(frozen=True)
class Ground:
    """A world, a launch, and the runner's end: enough to take things away."""

    world: LocalWorld
    launch: Launch
    steps: Steps
    settle: float

    def live(self) -> Launch:
        """Return the launch with the facts and objects recorded until now."""
        return replace(self.launch, facts=dict(self.steps.facts), recorded=tuple(self.steps.resources()))

    def look(self) -> Observed:
        """Observe."""
        return look(self.world, self.live())

    def take_away(self, roles: Sequence[str]) -> None:
        """Remove the objects of some roles, in this order; those of an earlier launch under our names as well."""
        for role in roles:
            remove_role(role, self.steps, look=self.look, remove=lambda found: self.remove(found, cause="undo"))
            if self.launch.slug:
                self.world.sweep(naming.object_name(role, self.launch.slug))

    def remove(self, found: Resource, *, cause: str) -> None:
        """Remove one object and see that it is gone.

        Raises:
            BackendError: something of it is left.
        """
        with self.steps.act(removal(found.role), cause=cause, role=found.role) as step:
            item = self.world.get(found.id)
            if item is not None:
                self.world.remove(item)
            # Of one whose directory and supervisor went this is all that is known.
            if init := found.detail.get("init"):
                end_sandbox(proc.Known.from_json(init), found.name)
            if self.world.get(found.id) is not None:
                raise BackendError("was removed, but is still there", place=found.name)
            step.made(replace(found, state="absent", healthy=None, detail={}))


@dataclass(frozen=True)
class Hands(Ground, Reconciler):
    """An effect that builds: with the plan."""

    plan: LocalBottlePlan
    builder: Callable[[], Builder]

    def bring(self, role: str) -> LocalObject:
        """Bring the object of a role to what the plan says, and return it."""
        self.carry_out(self._operations(role))
        found = self.found(role)
        if found.kind == "process":
            self.check_running(role)
        return found

    def found(self, role: str) -> LocalObject:
        """Return this launch's object of a role.

        Raises:
            DriftError: it is gone.
        """
        found = one(self.world, self.launch, role)
        if found is None:
            raise DriftError(f"the {role} is gone", place=self.launch.bottle)
        return found

    def check_running(self, role: str) -> LocalObject:
        """See that a sandbox runs.

        Raises:
            SidecarExitedError: it ended; with its exit code and last lines.
        """
        found = self.found(role)
        if found.state != "running":
            raise SidecarExitedError(
                f"ended with exit code {found.exit_code}; its last lines: {last_lines(found.directory)}",
                place=found.name,
            )
        return found

    def check(self, role: str) -> None:
        """See that a sandbox runs and is ready now."""
        found = self.check_running(role)
        if not self._ready(found):
            raise DriftError("runs, but is not ready", place=found.name)

    def ready(self, role: str) -> None:
        """Wait until a sandbox's health check succeeds; notice at once when it ended instead."""
        found = self.check_running(role)
        if self._ready(found):
            return
        with self.steps.act(f"await {role}", cause="its health check", role=role):
            while not self._ready(self.check_running(role)):
                if self.steps.remaining() <= _POLL:
                    raise StepTimeoutError(
                        f"did not become ready in time; its last lines: {last_lines(found.directory)}", place=found.name
                    )
                self.steps.sleep(_POLL)

    def door(self, role: str) -> LocalBottle:
        """Return the handle into the sandbox of a role."""
        return handle(self.found(role))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _operations(self, role: str) -> list[Operation]:
        operations = []
        for attempt in range(3):
            operations = [o for o in diff(self.plan, self.look(), self.live()) if o.role == role]
            if not any(o.action == "refuse" for o in operations):
                break
            if attempt < 2:  # noqa: PLR2004 - the last look decides
                self.steps.sleep(self.settle)
        return sorted(operations, key=lambda o: o.target is not None)

    def create(self, target: PlannedObject, labels: Labels) -> Resource:
        """Fill a directory and put it into the world."""
        builder = self.builder()
        made = self.world.create(target.kind, target.name, labels.as_dict(), fill=self._filler(builder, target))
        return seen(made, self.launch)

    def _filler(self, builder: Builder, target: PlannedObject) -> Callable[[Path, Path], dict[str, object]]:
        if target.kind != "process":
            return builder.fill_door
        box: SandboxPlan = self.plan.sandbox(target.role)
        return lambda new, final: builder.fill(box, new, final)

    def start(self, object_id: str, target: PlannedObject, cause: str) -> None:
        """Start a sandbox; the agent's only right after both sidecars were seen to be well."""
        if target.role == naming.ROLE_AGENT:
            for sidecar in (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR):
                self.check(sidecar)
        with self.steps.act(f"start {target.role}", cause=cause, role=target.role) as step:
            found = self.world.get(object_id)
            if found is None:
                raise DriftError("is gone", place=target.name)
            init = self.world.start(found)
            step.made(seen(self.found(target.role), self.launch))
            step.evidence("init", init)

    def _ready(self, found: LocalObject) -> bool:
        """Ask a sidecar for its health; the agent's first process serves as soon as it runs."""
        role = found.labels[naming.LABEL_ROLE]
        return role == naming.ROLE_AGENT or self.health(role).get("status") in {"ok", "healthy"}

    def health(self, role: str) -> dict[str, str]:
        """Return a sidecar's own health answer; empty when it gives none."""
        return health.ask(health_socket(self.world, self.launch.slug or self.plan.slug, role))


def health_socket(world: LocalWorld, slug: str, role: str) -> Path:
    """Return the socket at which a sidecar tells its health."""
    if role == naming.ROLE_GUARD:
        return world.folder / naming.object_name(naming.ROLE_NET_BETWEEN, slug) / SOCKETS / GUARD_SOCKET
    return world.folder / naming.object_name(role, slug) / "state" / HEALTH_SOCKET


def handle(found: LocalObject) -> LocalBottle:
    """Return the handle into a sandbox."""
    return LocalBottle(found.directory, name=found.name)
