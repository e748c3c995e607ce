"""DockerBackend: bottles on any engine that speaks Docker's API. Puts the collaborators in their order.

Not its duty: how a network or container is made; each has its own module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from bottle_fsm import naming
from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.agent import AgentContainer
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.drift import find_drift, unsaved_work
from bottle_fsm.backend.docker.endpoint import Endpoint
from bottle_fsm.backend.docker.imagestep import ensure_images
from bottle_fsm.backend.docker.inventory import everything
from bottle_fsm.backend.docker.joining import PLACES
from bottle_fsm.backend.docker.mitm import MitmProxy
from bottle_fsm.backend.docker.networks import check_members, ensure_networks, existing_id
from bottle_fsm.backend.docker.observe import NETWORKS, observe
from bottle_fsm.backend.docker.plan import DockerBottlePlan, subnet_fact
from bottle_fsm.backend.docker.proxy import GuardProxy
from bottle_fsm.backend.docker.resolve import resolve
from bottle_fsm.backend.docker.wait import read_logs
from bottle_fsm.backend.docker.work import Ground, Work
from bottle_fsm.backend.trust import doubt, establish
from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import BackendError, DriftError, NoLogError, Problem, ValidationError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json, Launch, Observed, Resource
from bottle_fsm.places import GUARD_PORT, SCAN_PORT
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.provision.trustgate import run_gate
from bottle_fsm.steps import Steps

IMAGE_DIR: Final = "images"
"""Below the state root: fetched parts of our own images, and the lock of their builds."""


class DockerBackend(BottleBackend):
    """See the module."""

    name: ClassVar[str] = "docker"
    intercepts_tls: ClassVar[bool] = True
    settle: ClassVar[float] = 1.0
    plan_type: ClassVar[type[BottlePlan]] = DockerBottlePlan

    def __init__(self, host: Host, endpoint: Json | None = None) -> None:
        super().__init__(host)
        self._endpoint = Endpoint.from_json(endpoint) if endpoint else None
        self._engine: Engine | None = None
        self._proxy = GuardProxy()
        self._mitm = MitmProxy()
        self._agent = AgentContainer((self._proxy, self._mitm))

    @property
    def engine(self) -> Engine:
        """Return the engine: the recorded one, else the one that the user's environment names.

        Raises:
            EngineUnavailableError: it does not answer.
            DecisionNeededError: another engine answers at the recorded address.
        """
        if self._engine is None:
            self._engine = connect(self.host.environ, endpoint=self._endpoint)
        return self._engine

    # -- before anything exists --------------------------------------------------------------------------------------

    def validate(self, spec: BottleSpec) -> None:
        """Check the manifest against this host first, then whether the engine can do it."""
        super().validate(spec)
        engine, agent, reach = self.engine, spec.agent_model, spec.reach
        if agent is not None and agent.workspace.mode == "bind" and not engine.url.startswith("unix://"):
            problem = "`bind` needs an engine on this host"
            place = f"{spec.manifest_path} agents/{spec.agent}/workspace/mode"
            raise ValidationError([Problem(place, problem, f"This one is {engine.url}: use `copy`")])
        if reach is not None and reach.egress.network:
            existing_id(engine, reach.egress.network)

    def resolve_plan(self, spec: BottleSpec) -> DockerBottlePlan:
        """Return the plan for a validated spec."""
        return resolve(spec, self.host, self.engine)

    def check_endpoint(self, plan: BottlePlan) -> None:
        """Talk to the recorded engine from now on, and make sure that it is the one."""
        recorded = Endpoint.from_json(plan.endpoint)
        if self._engine is not None and recorded.same_as(self._engine.endpoint()):
            return
        self._engine = connect(self.host.environ, endpoint=recorded)

    # -- up ----------------------------------------------------------------------------------------------------------

    def start_proxies(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up images, networks and the guard."""
        work = self._work(plan, launch, steps)
        ensure_images(work, data_dir=self.host.state_dir / IMAGE_DIR, environ=self.host.environ)
        ensure_networks(work)
        self._proxy.start(work)

    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the interceptor, record its CA, and see that it reaches the guard."""
        work = self._work(plan, launch, steps)
        self._proxy.check(work)
        container_id = self._mitm.start(work)
        self._mitm.check_guard(work, container_id)
        self._mitm.record_ca(work, container_id)

    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the agent; both sidecars are looked at now, and once more immediately before it is started."""
        work = self._work(plan, launch, steps)
        self._proxy.check(work)
        self._mitm.check(work)
        check_members(work, NETWORKS)
        self._agent.start(work)
        doubt(steps)

    def provision_ca(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the agent trust the CA of the running interceptor, and prove it by a request from inside."""
        work = self._work(plan, launch, steps)
        bottle = self._bottle(launch)
        bottle.settle()
        pem = self._mitm.record_ca(work, self._mitm.found(work).id)
        known = f"{bottle.container_id} {bottle.running_since()}"
        establish(bottle, pem, steps, agent=known, launch=launch.launch)

    def prove_trust(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Let every tool inside prove its trust, as the gate does before the hand-over."""
        run_gate(self._bottle(launch), steps=steps, expect_launch=launch.launch)

    def selftest_probes(self, plan: BottlePlan, launch: Launch) -> Mapping[str, str]:  # noqa: ARG002 - the hook's signature
        """Return the bottle's own neighbours, none of which the agent may reach directly."""
        inside = launch.facts[subnet_fact(naming.ROLE_NET_INSIDE)]
        between = launch.facts[subnet_fact(naming.ROLE_NET_BETWEEN)]
        guard = addresses.address(between, PLACES[naming.ROLE_GUARD, naming.ROLE_NET_BETWEEN])
        return {
            "guard's proxy": f"{guard}:{GUARD_PORT}",
            "guard's scan API": f"{guard}:{SCAN_PORT}",
            "host at the inside network's gateway": f"{addresses.address(inside, addresses.GATEWAY)}:22",
            "host at the between network's gateway": f"{addresses.address(between, addresses.GATEWAY)}:22",
        }

    # -- down --------------------------------------------------------------------------------------------------------

    def stop_agent(self, launch: Launch, steps: Steps) -> None:
        """Remove the agent and its volumes."""
        self._agent.stop(self._ground(launch, steps))

    def stop_mitm(self, launch: Launch, steps: Steps) -> None:
        """Remove the interceptor; its CA goes with it."""
        self._mitm.stop(self._ground(launch, steps))

    def stop_proxies(self, launch: Launch, steps: Steps) -> None:
        """Remove the guard, then the networks."""
        ground = self._ground(launch, steps)
        self._proxy.stop(ground)
        for role in NETWORKS:
            ground.remove_role(role)

    # -- looking -----------------------------------------------------------------------------------------------------

    def observe(self, launch: Launch) -> Observed:
        """Look at the engine by label, and by recorded name and id."""
        return observe(self.engine, launch)

    def everything(self, root: str | None) -> tuple[Resource, ...]:
        """List what carries our labels on the engine."""
        return everything(self.engine, root)

    def remove(self, resource: Resource, steps: Steps, *, cause: str) -> None:
        """Remove one object by id."""
        root, bottle = str(resource.detail["root"]), str(resource.detail["bottle"])
        launch = Launch(root=root, bottle=bottle, launch=resource.launch, slug="", epoch=steps.epoch)
        self._ground(launch, steps).remove(resource, cause=cause)

    def bottle(self, launch: Launch) -> Bottle:
        """Return the handle into the running agent."""
        return self._bottle(launch)

    def logs(self, launch: Launch, role: str, tail: int | None, *, since: float = 0.0) -> bytes:
        """Return what the container of a role wrote."""
        found = [r for r in observe(self.engine, launch, "container").of_role(role) if r.launch == launch.launch]
        if not found:
            raise NoLogError(f"there is no {role} of this bottle", place=launch.bottle)
        return read_logs(self.engine, found[0].id, tail=tail, since=since)

    def drift(self, plan: BottlePlan, launch: Launch) -> str:
        """Compare what only a look inside shows: the CA in three places, the sidecars' policy, delivered secrets."""
        return find_drift(self.engine, _docker_plan(plan), launch)

    def unsaved_work(self, launch: Launch) -> str:
        """Say what the agent changed in its workspace."""
        found = self.observe(launch).of_role(naming.ROLE_AGENT)
        return unsaved_work(self.engine, found[0]) if found else ""

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _bottle(self, launch: Launch) -> DockerBottle:
        agents = observe(self.engine, launch, "container").of_role(naming.ROLE_AGENT)
        found = [r for r in agents if r.launch == launch.launch]
        running = [r for r in found if r.state == "running"]
        if not running:
            state = found[0].state if found else "not there"
            raise DriftError(
                f"the agent's container is {state}", place=launch.bottle, hint="Bring it back: `bottle-fsm apply`"
            )
        return DockerBottle(self.engine, running[0].id, name=running[0].name)

    def _ground(self, launch: Launch, steps: Steps) -> Ground:
        return Ground(engine=self.engine, launch=launch, steps=steps, settle=self.settle)

    def _work(self, plan: BottlePlan, launch: Launch, steps: Steps) -> Work:
        return Work(engine=self.engine, launch=launch, steps=steps, settle=self.settle, plan=_docker_plan(plan))


def _docker_plan(plan: BottlePlan) -> DockerBottlePlan:
    if not isinstance(plan, DockerBottlePlan):
        raise BackendError(f"a plan for the backend {plan.backend} cannot be carried out here", place=plan.bottle)
    return plan
