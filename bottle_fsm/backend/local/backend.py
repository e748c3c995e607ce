"""LocalBackend: bottles as bubblewrap sandboxes of this machine. Puts the collaborators in their order.

Not its duty: how a directory or a sandbox is made; each has its own module.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import ClassVar

from bottle_fsm import naming
from bottle_fsm.backend import delivery
from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.local import identity
from bottle_fsm.backend.local.build import Builder
from bottle_fsm.backend.local.drift import certificate, find_drift
from bottle_fsm.backend.local.fitness import check_machine
from bottle_fsm.backend.local.hands import Ground, Hands, handle
from bottle_fsm.backend.local.look import everything, look, one
from bottle_fsm.backend.local.places import DIRECTORY, data_directory
from bottle_fsm.backend.local.plan import DOORS, LocalBottlePlan
from bottle_fsm.backend.local.resolve import resolve, unfit
from bottle_fsm.backend.local.venv import ensure_venv, is_ready
from bottle_fsm.backend.local.world import LocalObject, LocalWorld, log_end, whole_log
from bottle_fsm.backend.trust import doubt, establish, record_ca
from bottle_fsm.bottle import Bottle
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError, DriftError, NoLogError, ValidationError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Launch, Observed, Resource
from bottle_fsm.places import AGENT_ENV_FILE
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.provision.trustgate import run_gate
from bottle_fsm.provision.unsaved import STOPPED, workspace_changes
from bottle_fsm.steps import Steps


class LocalBackend(BottleBackend):
    """See the module."""

    name: ClassVar[str] = "local"
    intercepts_tls: ClassVar[bool] = True
    settle: ClassVar[float] = 0.5
    plan_type: ClassVar[type[BottlePlan]] = LocalBottlePlan

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.world = LocalWorld(host.state_dir / DIRECTORY)

    # -- before anything exists --------------------------------------------------------------------------------------

    def validate(self, spec: BottleSpec) -> None:
        """Check the manifest against this host first, then whether this machine can run a sandbox."""
        super().validate(spec)
        if problems := unfit(spec):
            raise ValidationError(problems)
        check_machine(platform=sys.platform, environ=self.host.environ)

    def resolve_plan(self, spec: BottleSpec) -> LocalBottlePlan:
        """Return the plan for a validated spec."""
        return resolve(spec, self.host)

    def check_endpoint(self, plan: BottlePlan) -> None:
        """See that this is the machine, the user and the process world that the launch was made in."""
        identity.check_endpoint(plan.endpoint, place=plan.bottle)

    # -- up ----------------------------------------------------------------------------------------------------------

    def start_proxies(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the sidecars' environment, the sockets' directories and the guard."""
        hands = self._hands(plan, launch, steps)
        data = data_directory(self.host.environ, self.host.home)
        if not is_ready(data):
            steps.say("installing the sidecars' environment, once for all bottles (about a minute)")
            with steps.act("install the sidecars' environment", cause="not found"):
                ensure_venv(data, self.host.environ)
        for role in DOORS:
            hands.bring(role)
        hands.bring(naming.ROLE_GUARD)
        hands.ready(naming.ROLE_GUARD)

    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the interceptor, record its CA, and see that it reaches the guard."""
        hands = self._hands(plan, launch, steps)
        hands.check(naming.ROLE_GUARD)
        found = hands.bring(naming.ROLE_INTERCEPTOR)
        role = naming.ROLE_INTERCEPTOR
        if hands.health(role).get("status") != "ok":
            content = delivery.for_interceptor(plan, steps)
            with steps.act(f"deliver secrets to {role}", cause="they live on tmpfs only", role=role):
                self._deliver(hands, role, content, egress_files.INTERCEPTOR_SECRETS)
        hands.ready(role)
        if hands.health(role).get("guard") != "ok":
            raise DriftError("does not reach the guard", place=found.name)
        record_ca(certificate(found), steps)

    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the agent; both sidecars are looked at now, and once more immediately before it is started."""
        hands = self._hands(plan, launch, steps)
        for role in (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR):
            hands.check(role)
        found = hands.bring(naming.ROLE_AGENT)
        doubt(steps)
        if handle(found).exec(["test", "-r", AGENT_ENV_FILE]).code == 0:
            return
        lines, names = delivery.for_agent(plan, steps)
        role = naming.ROLE_AGENT
        with steps.act(f"deliver secrets to {role}", cause="they live on tmpfs only", role=role) as step:
            self._deliver(hands, role, lines, AGENT_ENV_FILE)
            step.evidence("names", names)

    def provision_ca(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Make the agent trust the CA of the running interceptor, and prove it by a request from inside."""
        interceptor, agent = self._one(launch, naming.ROLE_INTERCEPTOR), self._agent(launch)
        pem = certificate(interceptor)
        record_ca(pem, steps)
        known = f"{agent.id} {agent.init['start']}"
        establish(handle(agent), pem, steps, agent=known, launch=launch.launch, chosen=False)

    def prove_trust(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Let every tool inside prove its trust, as the gate does before the hand-over."""
        run_gate(self.bottle(launch), steps=steps, expect_launch=launch.launch, chosen=False)

    def selftest_probes(self, plan: BottlePlan, launch: Launch) -> Mapping[str, str]:  # noqa: ARG002 - the hook's signature
        """Return this machine's own address, which the agent must not reach; nothing where it has none."""
        address = identity.own_address()
        return {"this machine at its own address": f"{address}:22"} if address else {}

    # -- down --------------------------------------------------------------------------------------------------------

    def stop_agent(self, launch: Launch, steps: Steps) -> None:
        """Remove the agent with its home and workspace."""
        self._ground(launch, steps).take_away((naming.ROLE_AGENT,))

    def stop_mitm(self, launch: Launch, steps: Steps) -> None:
        """Remove the interceptor; its CA goes with it."""
        self._ground(launch, steps).take_away((naming.ROLE_INTERCEPTOR,))

    def stop_proxies(self, launch: Launch, steps: Steps) -> None:
        """Remove the guard, then the sockets' directories."""
        self._ground(launch, steps).take_away((naming.ROLE_GUARD, *reversed(DOORS)))

    # -- looking -----------------------------------------------------------------------------------------------------

    def observe(self, launch: Launch) -> Observed:
        """Look by label, by wanted name and by what was recorded."""
        return look(self.world, launch)

    def everything(self, root: str | None) -> tuple[Resource, ...]:
        """List what carries our labels."""
        return everything(self.world, root)

    def remove(self, resource: Resource, steps: Steps, *, cause: str) -> None:
        """Remove one object by id."""
        root, bottle = str(resource.detail["root"]), str(resource.detail["bottle"])
        launch = Launch(root=root, bottle=bottle, launch=resource.launch, slug="", epoch=steps.epoch)
        self._ground(launch, steps).remove(resource, cause=cause)

    def bottle(self, launch: Launch) -> Bottle:
        """Return the handle into the running agent."""
        return handle(self._agent(launch))

    def logs(self, launch: Launch, role: str, tail: int | None, *, since: float = 0.0) -> bytes:  # noqa: ARG002 - a hint
        """Return what the sandbox of a role wrote; its log is small, so all of it is read whatever `since` says."""
        found = one(self.world, launch, role)
        if found is None:
            raise NoLogError(f"there is no {role} of this bottle", place=launch.bottle)
        return whole_log(found.directory) if tail is None else log_end(found.directory, tail)

    def drift(self, plan: BottlePlan, launch: Launch) -> str:
        """Compare what only a look inside shows: the CA in three places, the policy, delivered secrets."""
        return find_drift(self.world, _local_plan(plan), launch)

    def unsaved_work(self, launch: Launch) -> str:
        """Say what the agent changed in its workspace."""
        found = one(self.world, launch, naming.ROLE_AGENT)
        if found is None:
            return ""
        return workspace_changes(handle(found)) if found.state == "running" else STOPPED

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _one(self, launch: Launch, role: str) -> LocalObject:
        found = one(self.world, launch, role)
        if found is None:
            raise DriftError(f"the {role} is gone", place=launch.bottle)
        return found

    def _agent(self, launch: Launch) -> LocalObject:
        found = one(self.world, launch, naming.ROLE_AGENT)
        if found is None or found.state != "running":
            state = found.state if found else "not there"
            hint = "Bring it back: `bottle-fsm apply`"
            raise DriftError(f"the agent's sandbox is {state}", place=launch.bottle, hint=hint)
        return found

    def _deliver(self, hands: Hands, role: str, content: bytes, target: str) -> None:
        try:
            hands.door(role).copy_in(content, target, mode=0o600)
        except BackendError:
            hands.check_running(role)  # the better reason, if it ended
            raise

    def _ground(self, launch: Launch, steps: Steps) -> Ground:
        return Ground(world=self.world, launch=launch, steps=steps, settle=self.settle)

    def _hands(self, plan: BottlePlan, launch: Launch, steps: Steps) -> Hands:
        local = _local_plan(plan)

        def builder() -> Builder:
            venv = ensure_venv(data_directory(self.host.environ, self.host.home), self.host.environ)
            return Builder(local, launch, steps, venv, self.world.folder)

        return Hands(world=self.world, launch=launch, steps=steps, settle=self.settle, plan=local, builder=builder)


def _local_plan(plan: BottlePlan) -> LocalBottlePlan:
    if not isinstance(plan, LocalBottlePlan):
        raise BackendError(f"a plan for the backend {plan.backend} cannot be carried out here", place=plan.bottle)
    return plan
