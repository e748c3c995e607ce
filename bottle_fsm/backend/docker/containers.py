"""Container: the one shape of guard, interceptor and agent: decide, make, copy, join, start, check, wait.

Each engine call is a sub-step of its own, so that a launch killed anywhere is resumed from between them. A container
that never started is made again, never adopted: files may be missing, and it would join its network by name. So is a
sidecar whose files are not the ones that would be copied now: somebody changed them, or its tokens are of a lost key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Final

from bottle_fsm import naming
from bottle_fsm.archive import Member
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.archive_files import check_files, put_members
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.creation import Circumstances, container_config, filled
from bottle_fsm.backend.docker.joining import PLACES, check_networks, join, placeholders, rejoin
from bottle_fsm.backend.docker.networks import network_ids
from bottle_fsm.backend.docker.plan import ContainerPlan, image_fact, subnet_fact
from bottle_fsm.backend.docker.wait import check_running, wait_ready
from bottle_fsm.backend.docker.work import Ground, Work
from bottle_fsm.egress.healthcheck import PATIENCE
from bottle_fsm.errors import BackendError, DriftError, NameTakenError
from bottle_fsm.model import Observed, Resource
from bottle_fsm.plan.diff import Operation
from bottle_fsm.transfer import Call

PROBE_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 1.0
"""Of one look while a container becomes ready; between two, Ctrl-C is heard."""


def volume_resource(work: Work, name: str) -> Resource:
    """Return the record of a volume of the agent's."""
    return Resource("volume", naming.ROLE_VOLUME, name, name, launch=work.launch.launch, epoch=work.steps.epoch)


class Container(ABC):
    """One of the three containers. Collaborators of one shape: plan, start, observe, stop."""

    ROLE: str

    @abstractmethod
    def plan(self, work: Work) -> ContainerPlan:
        """Return its part of the plan."""

    def members(self, work: Work) -> dict[str, Member]:  # noqa: ARG002 - the hook's signature
        """Return directories to be there before the start."""
        return {}

    def files(self, work: Work) -> dict[str, Member]:  # noqa: ARG002 - the hook's signature
        """Return files to be copied in before the start, and compared when it is adopted."""
        return {}

    def deliver(self, work: Work, container_id: str) -> None:  # noqa: B027 - not everyone has something to get
        """Bring what must live on tmpfs: after each start, and again when it is adopted."""

    def before_start(self, work: Work) -> None:  # noqa: B027 - only some depend on others
        """Look at what must be well immediately before the container is started."""

    def volumes(self, work: Work) -> dict[str, str]:  # noqa: ARG002 - the hook's signature
        """Return labelled volumes: name → path."""
        return {}

    def start(self, work: Work) -> str:
        """Bring the container up and return its id."""
        operation = work.operation(self.ROLE)
        try:
            container_id = self._bring(work, operation)
        except NameTakenError:
            # Ours in flight from a launcher that died, or a stranger's: a second look tells.
            work.steps.sleep(work.settle)
            operation = work.operation(self.ROLE)
            container_id = self._bring(work, operation)
        check_networks(work, self.plan(work), container_id)
        self._deliver(work, container_id)
        ran = operation.action == "adopt" and operation.found is not None and operation.found.id == container_id
        if not (ran and self._ready_now(work, container_id)):
            self._await(work, container_id)
        return container_id

    def check(self, work: Work) -> None:
        """See that it runs and is ready now.

        Raises:
            DriftError: it is not there, or not ready. SidecarExitedError: it ended.
        """
        name = self.plan(work).name
        found = self.found(work)
        check_running(work.engine, found.id, name=name)
        if not self.ready(work, found.id):
            raise DriftError("runs, but is not ready", place=name)

    def found(self, work: Work) -> Resource:
        """Return the container as it is now."""
        found = [r for r in work.look("container").of_role(self.ROLE) if r.launch == work.launch.launch]
        if not found:
            raise DriftError("is gone", place=self.plan(work).name)
        return found[0]

    def observe(self, observed: Observed) -> tuple[Resource, ...]:
        """Return its part of a look at the world."""
        return observed.of_role(self.ROLE)

    def stop(self, ground: Ground) -> None:
        """Remove it, with the anonymous volumes that it may have."""
        ground.remove_role(self.ROLE)

    def ready(self, work: Work, container_id: str, *, patience: float = 0.0) -> bool:
        """Ask it for its health, from inside: no address of a container is ever dialled from here.

        `patience`: seconds for which our own health check asks again before it says no.
        """
        plan = self.plan(work)
        if not plan.health:
            return True
        argv = tuple(filled(word, placeholders(work.steps.facts)) for word in plan.health)
        door = DockerBottle(work.engine, container_id, name=plan.name, users={"agent": plan.user, "root": "0:0"})
        try:
            env = {PATIENCE: f"{patience:.2f}"} if patience else {}
            return door.run(Call(argv=argv, user="agent", env=env, seconds=PROBE_SECONDS, mark="")).code == 0
        except TimeoutError:
            return False

    # -- making ------------------------------------------------------------------------------------------------------

    def _bring(self, work: Work, operation: Operation) -> str:
        """Do what was decided, and return the id of the running container."""
        found = operation.found
        if found is None or operation.action not in {"adopt", "start"}:
            return self._make(work, operation)
        try:
            self._compare(work, found.id)
        except DriftError as differs:
            if operation.target is None or operation.target.precious:
                raise
            return self._make(work, replace(operation, cause=differs.problem))
        work.adopt(operation)
        if operation.action == "start":
            rejoin(work, self.plan(work), found.id)
            self._run(work, found.id, cause=operation.cause)
        return found.id

    def _make(self, work: Work, operation: Operation) -> str:
        if operation.found is not None:
            self._agree(work, operation)
            work.remove(operation.found, cause=operation.cause)
        container_id = self._create(work, operation.cause)
        self._fill(work, container_id)
        join(work, self.plan(work), container_id)
        self._run(work, container_id, cause=operation.cause)
        return container_id

    def _agree(self, work: Work, operation: Operation) -> None:
        """Ask before something goes that may hold the agent's work; a container that never ran holds none."""
        target, found = operation.target, operation.found
        if target is None or found is None or not target.precious or found.state == "created":
            return
        work.steps.consent(
            f"{found.name} must be made again ({operation.cause}); what the agent changed in it is lost",
            hint="Save it first: `bottle-fsm cp`; then say --yes",
        )

    def _create(self, work: Work, cause: str) -> str:
        plan = self.plan(work)
        planned = plan.planned()
        with work.steps.act(f"create {self.ROLE}", cause=cause, role=self.ROLE) as step:
            first = plan.networks[0]
            labels = work.labels(planned, f"create {self.ROLE}")
            given = Circumstances(
                image=work.steps.facts[image_fact(self.ROLE)],
                network=network_ids(work, [first])[first],
                address=addresses.address(work.steps.facts[subnet_fact(first)], PLACES[self.ROLE, first]),
                names=placeholders(work.steps.facts),
                labels=labels,
                api_version=work.engine.api_version,
                volumes=self.volumes(work),
            )
            for name in given.volumes:
                step.made(volume_resource(work, name))
            with work.engine.guarded(f"create {plan.name}") as api:
                made: dict[str, str] = api.create_container_from_config(  # type: ignore[no-untyped-call]  # stub lacks it
                    container_config(plan, given), plan.name
                )
            step.made(work.resource(planned, made["Id"], state="created"))
        return made["Id"]

    def _fill(self, work: Work, container_id: str) -> None:
        members, files = self.members(work), self.files(work)
        if not members and not files:
            return
        name = self.plan(work).name
        with work.steps.act(f"copy into {self.ROLE}", cause="before its first start", role=self.ROLE):
            put_members(work.engine, container_id, members, name=name)
            for path, member in files.items():  # one by one: the manifest of digests has to be the last
                put_members(work.engine, container_id, {path: member}, name=name)
            self._compare(work, container_id)

    def _compare(self, work: Work, container_id: str) -> None:
        contents = {path: member.content for path, member in self.files(work).items() if member.content is not None}
        if contents:
            check_files(work.engine, container_id, contents, name=self.plan(work).name)

    def _run(self, work: Work, container_id: str, *, cause: str) -> None:
        plan = self.plan(work)
        self.before_start(work)
        with work.steps.act(f"start {self.ROLE}", cause=cause, role=self.ROLE) as step:
            with work.engine.guarded(f"start {plan.name}") as api:
                if api.inspect_container(container_id)["State"].get("Paused"):
                    api.unpause(container_id)
                else:
                    api.start(container_id)
            step.made(work.resource(plan.planned(), container_id, state="running"))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _deliver(self, work: Work, container_id: str) -> None:
        try:
            self.deliver(work, container_id)
        except BackendError:
            check_running(work.engine, container_id, name=self.plan(work).name)  # the better reason, if it ended
            raise

    def _await(self, work: Work, container_id: str) -> None:
        plan = self.plan(work)
        if not plan.health:
            return
        with work.steps.act(f"await {self.ROLE}", cause="its health check", role=self.ROLE):
            wait_ready(
                work.engine,
                container_id,
                name=plan.name,
                ready=lambda: self.ready(work, container_id, patience=min(WAIT_SECONDS, work.steps.remaining())),
                steps=work.steps,
            )

    def _ready_now(self, work: Work, container_id: str) -> bool:
        try:
            return self.ready(work, container_id)
        except BackendError:
            return False  # it may be ending: the wait finds out why
