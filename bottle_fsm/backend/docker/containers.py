"""Container: the one shape of guard, interceptor and agent: decide, make, copy, join, start, check, wait.

Each engine call is a sub-step of its own, so that a launch killed anywhere is resumed from between them. A container
that never started is made again, never adopted: files may be missing, and it would join its network by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from bottle_fsm import naming
from bottle_fsm.archive import Member
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.archive_files import check_files, put_members
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.creation import Circumstances, container_config, filled
from bottle_fsm.backend.docker.errors import ObjectGoneError
from bottle_fsm.backend.docker.networks import MEMBERS, check_members, network_id
from bottle_fsm.backend.docker.plan import ContainerPlan, image_fact, subnet_fact
from bottle_fsm.backend.docker.wait import check_running, wait_ready
from bottle_fsm.backend.docker.work import Ground, Work, name_taken
from bottle_fsm.errors import BackendError, DriftError, NameTakenError
from bottle_fsm.model import Observed, Resource
from bottle_fsm.plan.diff import Operation
from bottle_fsm.transfer import Call

PLACES: Final = {
    (naming.ROLE_GUARD, naming.ROLE_NET_BETWEEN): addresses.PARTNER,
    (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_BETWEEN): addresses.INTERCEPTOR,
    (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_INSIDE): addresses.INTERCEPTOR,
    (naming.ROLE_AGENT, naming.ROLE_NET_INSIDE): addresses.PARTNER,
}
"""Who has which number in which network."""
PROBE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 3


def placeholders(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses that a plan's texts name, as far as their subnets are chosen."""
    homes = {
        "guard": (naming.ROLE_GUARD, naming.ROLE_NET_BETWEEN),
        "interceptor": (naming.ROLE_INTERCEPTOR, naming.ROLE_NET_INSIDE),
    }
    known = {name: (role, net, facts.get(subnet_fact(net))) for name, (role, net) in homes.items()}
    return {name: addresses.address(subnet, PLACES[role, net]) for name, (role, net, subnet) in known.items() if subnet}


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

    def volumes(self, work: Work) -> dict[str, str]:  # noqa: ARG002 - the hook's signature
        """Return labelled volumes: name → path."""
        return {}

    def start(self, work: Work) -> str:
        """Bring the container up and return its id."""
        operation = work.operation(self.ROLE)
        if operation.action == "adopt" and operation.found is not None:
            work.adopt(operation)
            container_id = operation.found.id
            self._compare(work, container_id)
        elif operation.action == "start" and operation.found is not None:
            container_id = operation.found.id
            work.adopt(operation)
            self._run(work, container_id, cause=operation.cause)
        else:
            container_id = self._make(work, operation)
        self._check_networks(work, container_id)
        self._deliver(work, container_id)
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
        found = [r for r in work.look().of_role(self.ROLE) if r.launch == work.launch.launch]
        if not found:
            raise DriftError("is gone", place=self.plan(work).name)
        return found[0]

    def observe(self, observed: Observed) -> tuple[Resource, ...]:
        """Return its part of a look at the world."""
        return observed.of_role(self.ROLE)

    def stop(self, ground: Ground) -> None:
        """Remove it, with the anonymous volumes that it may have."""
        ground.remove_role(self.ROLE)

    def ready(self, work: Work, container_id: str) -> bool:
        """Ask it for its health, from inside: no address of a container is ever dialled from here."""
        plan = self.plan(work)
        if not plan.health:
            return True
        argv = tuple(filled(word, placeholders(work.steps.facts)) for word in plan.health)
        door = DockerBottle(work.engine, container_id, name=plan.name, users={"agent": plan.user, "root": "0:0"})
        try:
            return door.run(Call(argv=argv, user="agent", seconds=PROBE_SECONDS, mark="")).code == 0
        except TimeoutError:
            return False

    # -- making ------------------------------------------------------------------------------------------------------

    def _make(self, work: Work, operation: Operation) -> str:
        if operation.action == "replace" and operation.found is not None:
            self._agree(work, operation)
            work.remove(operation.found, cause=operation.cause)
        try:
            container_id = self._create(work, operation.cause)
        except NameTakenError:
            # Ours in flight from a launcher that died, or a stranger's: a second look tells.
            work.steps.sleep(work.settle)
            again = work.operation(self.ROLE)
            if again.found is None:
                raise name_taken(self.plan(work).name) from None
            return self._make(work, again) if again.action == "replace" else again.found.id
        self._fill(work, container_id)
        self._join(work, container_id)
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
                network=network_id(work, first),
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

    def _join(self, work: Work, container_id: str) -> None:
        plan = self.plan(work)
        for role in plan.networks[1:]:
            with work.steps.act(f"connect {self.ROLE} to {role}", cause="before its first start", role=self.ROLE):
                self._connect(work, container_id, role)

    def _connect(self, work: Work, container_id: str, role: str) -> None:
        number = PLACES.get((self.ROLE, role))
        subnet = work.steps.facts.get(subnet_fact(role))
        address = addresses.address(subnet, number) if number and subnet else None
        network = network_id(work, role)
        with work.engine.guarded(f"connect {self.plan(work).name}") as api:
            api.connect_container_to_network(container_id, network, ipv4_address=address)

    def _run(self, work: Work, container_id: str, *, cause: str) -> None:
        plan = self.plan(work)
        with work.steps.act(f"start {self.ROLE}", cause=cause, role=self.ROLE) as step:
            self._rejoin(work, container_id)
            with work.engine.guarded(f"start {plan.name}") as api:
                if api.inspect_container(container_id)["State"].get("Paused"):
                    api.unpause(container_id)
                else:
                    api.start(container_id)
            step.made(work.resource(plan.planned(), container_id, state="running"))

    # -- checking ----------------------------------------------------------------------------------------------------

    def _rejoin(self, work: Work, container_id: str) -> None:
        """Join a network that was made again since this container last ran: it would look for the old one."""
        wanted = self._wanted_networks(work)
        with work.engine.guarded(f"inspect {self.plan(work).name}") as api:
            joined = api.inspect_container(container_id)["NetworkSettings"]["Networks"] or {}
            lost = [n for n in joined.values() if n.get("NetworkID") and n["NetworkID"] not in wanted]
            for network in lost:
                try:
                    api.disconnect_container_from_network(container_id, network["NetworkID"], force=True)
                except Exception as error:  # noqa: BLE001 - docker-py's; a network that is gone cannot be left
                    work.steps.say(f"cannot leave an old network: {type(error).__name__}")
        if not lost:
            return
        present = {n["NetworkID"] for n in joined.values()} & set(wanted)
        for object_id, role in wanted.items():
            if object_id not in present:
                self._connect(work, container_id, role)

    def _wanted_networks(self, work: Work) -> dict[str, str]:
        return {network_id(work, role): role for role in self.plan(work).networks}

    def _check_networks(self, work: Work, container_id: str) -> None:
        """See that it is on exactly the networks made for it; stop it otherwise, before anything is run in it.

        Raises:
            DriftError: see above.
        """
        check_running(work.engine, container_id, name=self.plan(work).name)
        try:
            self._compare_networks(work, container_id)
        except DriftError:
            self._halt(work, container_id)
            raise

    def _compare_networks(self, work: Work, container_id: str) -> None:
        plan = self.plan(work)
        with work.engine.guarded(f"inspect {plan.name}") as api:
            joined = api.inspect_container(container_id)["NetworkSettings"]["Networks"] or {}
        found = {str(network.get("NetworkID")) for network in joined.values()}
        if found != set(self._wanted_networks(work)):
            raise DriftError(f"is on other networks than planned: {', '.join(sorted(joined))}", place=plan.name)
        for role in plan.networks:
            if role in MEMBERS:
                check_members(work, role)

    def _halt(self, work: Work, container_id: str) -> None:
        with work.steps.act(f"stop {self.ROLE}", cause="its networks are not what was planned", role=self.ROLE):
            try:
                with work.engine.guarded(f"stop {self.plan(work).name}") as api:
                    api.stop(container_id, timeout=0)
            except ObjectGoneError:
                return

    def _deliver(self, work: Work, container_id: str) -> None:
        try:
            self.deliver(work, container_id)
        except BackendError:
            check_running(work.engine, container_id, name=self.plan(work).name)  # the better reason, if it ended
            raise

    def _await(self, work: Work, container_id: str) -> None:
        plan = self.plan(work)
        if self._ready_now(work, container_id):
            return
        with work.steps.act(f"await {self.ROLE}", cause="its health check", role=self.ROLE):
            wait_ready(
                work.engine,
                container_id,
                name=plan.name,
                ready=lambda: self.ready(work, container_id),
                steps=work.steps,
            )

    def _ready_now(self, work: Work, container_id: str) -> bool:
        try:
            return self.ready(work, container_id)
        except BackendError:
            return False  # it may be ending: the wait finds out why
