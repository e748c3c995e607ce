"""FakeBackend: the whole protocol on a simulated engine. Same plan, same order, same looks; nothing real is started."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from bottle_fsm import naming
from bottle_fsm.backend.base import PROVISION_ORDER, BottleBackend
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import DecisionNeededError, GateError, NameTakenError, ProvisionError, SidecarExitedError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json, Launch, Observed, Resource, canonical
from bottle_fsm.naming import Labels
from bottle_fsm.places import CA_CERT_PATH
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject, ProvisionItem
from bottle_fsm.plan.build import common_parts
from bottle_fsm.plan.diff import Operation, diff
from bottle_fsm.provision.provisioner import Provisioner
from bottle_fsm.provision.sources import read_sources
from bottle_fsm.steps import Step, Steps

WORLD_FILE: Final = "fake-world.json"
_PROXIES: Final = (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE, naming.ROLE_GUARD)
_NETWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    naming.ROLE_GUARD: (naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE),
    naming.ROLE_INTERCEPTOR: (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN),
    naming.ROLE_AGENT: (naming.ROLE_NET_INSIDE,),
}


class _Kept:
    """A provisioner that keeps what it was asked for as a file in the simulated bottle."""

    def __init__(self, name: str) -> None:
        self._path = f"/provisioned/{name}"

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:  # noqa: ARG002 - the protocol's signature
        step.evidence("digest", bottle.copy_in(canonical(item.inputs), self._path))

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        if bottle.read_file(self._path) != canonical(item.inputs):
            raise ProvisionError(f"{self._path} is not what the manifest asks for")


class FakeBackend(BottleBackend):
    """A backend on `FakeWorld`; the world is `fake-world.json` in the state root."""

    name: ClassVar[str] = "fake"
    intercepts_tls: ClassVar[bool] = True
    settle: ClassVar[float] = 0.1
    provisioners: ClassVar[Mapping[str, Provisioner]] = {n: _Kept(n) for n in PROVISION_ORDER if n != "ca"}

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.world = FakeWorld(host.state_dir / WORLD_FILE)

    def resolve_plan(self, spec: BottleSpec) -> BottlePlan:
        """Plan three networks, two sidecars and an agent."""
        common = common_parts(spec, read_sources(spec, self.host))
        slug = naming.slug(self.host.root_id, spec.project, spec.agent)
        reach = spec.reach
        inputs: dict[str, Json] = {
            naming.ROLE_GUARD: {"policy": common.policy},
            naming.ROLE_INTERCEPTOR: {"policy": common.policy},
            naming.ROLE_AGENT: {"image": reach.image if reach else "", "env": dict(common.env)},
        }
        objects = tuple(
            PlannedObject(
                role=role,
                kind="network" if role.startswith("net-") else "container",
                name=naming.object_name(role, slug),
                state=state,
                inputs=inputs.get(role, {}),
                runs=not role.startswith("net-"),
                precious=role == naming.ROLE_AGENT,
            )
            for role, state in (
                *((r, "proxies_up") for r in _PROXIES),
                (naming.ROLE_INTERCEPTOR, "mitm_up"),
                (naming.ROLE_AGENT, "agent_up"),
            )
        )
        return BottlePlan(
            bottle=spec.bottle,
            slug=slug,
            backend=self.name,
            spec=spec.digest,
            endpoint={"engine": self.world.identity()},
            guard="builtin",
            guard_reason="the fake backend simulates it",
            objects=objects,
            policy=common.policy,
            env=common.env,
            secrets=common.secrets,
            provision=common.provision,
            warnings=common.warnings,
            isolation=("none: this backend simulates an engine and starts nothing",),
        )

    def check_endpoint(self, plan: BottlePlan) -> None:
        """Compare the simulated engine's id with the recorded one."""
        recorded, found = plan.endpoint["engine"], self.world.identity()
        if recorded != found:
            raise DecisionNeededError(
                f"another engine answers ({found[:12]}) than the recorded one ({recorded[:12]})",
                place=plan.bottle,
                hint="Bring the recorded engine back.",
            )

    # -- up ----------------------------------------------------------------------------------------------------------

    def start_proxies(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the networks and the guard."""
        self._bring(plan, launch, steps, _PROXIES)

    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the interceptor; its CA is a digest of its id, so that another interceptor has another CA."""
        self._bring(plan, launch, steps, (naming.ROLE_INTERCEPTOR,))
        with steps.act("record the CA", cause="the interceptor runs", role=naming.ROLE_INTERCEPTOR) as step:
            step.fact("ca_sha256", self._ca(launch))

    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the agent."""
        self._bring(plan, launch, steps, (naming.ROLE_AGENT,))

    def provision_ca(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Put the fingerprint where the certificate would be, and prove it with one simulated tool."""
        ca = self._ca(launch)
        if self._trusted(launch) == ca:
            steps.skip("ca", reason="the agent has this CA already")
        else:
            with steps.act("ca", cause="the agent does not trust the bottle's CA", role=naming.ROLE_AGENT):
                self.bottle(launch).copy_in(ca.encode(), CA_CERT_PATH, owner="root")
        steps.evidence("ca_sha256", ca)
        steps.evidence("trust_matrix", [{"tool": "simulated", "version": "", "ok": True, "detail": "", "remedy": ""}])

    def selftest(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Look at the simulated agent's networks: only the inside one may be there."""
        inside = self._one(launch, naming.ROLE_NET_INSIDE).id
        networks = self._one(launch, naming.ROLE_AGENT).networks
        ok = networks == [inside]
        row = {"probe": "agent's networks", "target": "", "expected": "inside only", "ok": ok, "ms": 0}
        steps.evidence("selftest", [{**row, "got": "inside only" if ok else f"{len(networks)} networks"}])
        if not ok:
            raise GateError("the agent is on another network than the inside one", place=launch.bottle)

    def drift(self, plan: BottlePlan, launch: Launch) -> str:  # noqa: ARG002 - the hook's signature
        """Compare recorded CA, the interceptor's, and the one that the agent trusts."""
        recorded = launch.facts.get("ca_sha256", "")
        if self._ca(launch) != recorded:
            return "the interceptor has another CA than the recorded one"
        return "" if self._trusted(launch) == recorded else "the agent does not trust the bottle's CA"

    # -- down --------------------------------------------------------------------------------------------------------

    def stop_agent(self, launch: Launch, steps: Steps) -> None:
        """Remove the agent."""
        self._remove(launch, steps, (naming.ROLE_AGENT,))

    def stop_mitm(self, launch: Launch, steps: Steps) -> None:
        """Remove the interceptor."""
        self._remove(launch, steps, (naming.ROLE_INTERCEPTOR,))

    def stop_proxies(self, launch: Launch, steps: Steps) -> None:
        """Remove the guard, then the networks."""
        self._remove(launch, steps, tuple(reversed(_PROXIES)))

    # -- looking -----------------------------------------------------------------------------------------------------

    def observe(self, launch: Launch) -> Observed:
        """List by label; objects of other owners that hold our names are foreign."""
        wanted = {naming.object_name(r, launch.slug) for r in (*_PROXIES, *_NETWORKS)}
        found = [_resource(o, launch) for o in self.world.objects() if _is_ours(o, launch) or o.name in wanted]
        return Observed(tuple(found))

    def bottle(self, launch: Launch) -> Bottle:
        """Return the handle into the simulated agent."""
        return FakeBottle(self.world, self._one(launch, naming.ROLE_AGENT).id, launch.bottle)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _bring(self, plan: BottlePlan, launch: Launch, steps: Steps, roles: Sequence[str]) -> None:
        for operation in diff(plan, self.observe(launch), launch):
            if operation.role in roles:
                self._carry_out(operation, launch, steps)

    def _carry_out(self, operation: Operation, launch: Launch, steps: Steps) -> None:
        target, found = operation.target, operation.found
        if operation.action == "refuse":
            raise NameTakenError(
                f"{operation.name}: {operation.cause}", place=launch.bottle, hint="Rename or remove it."
            )
        if operation.action == "replace" and target is not None and target.precious:
            steps.consent(f"{operation.name} has to be made again ({operation.cause})", hint="Give --yes to agree.")
        with steps.act(f"{operation.action} {operation.role}", cause=operation.cause, role=operation.role) as step:
            if operation.action in {"replace", "remove"} and found is not None:
                self.world.remove(found.id)
                step.made(_gone(found))
            if operation.action in {"create", "replace"} and target is not None:
                step.made(self._make(target, launch, steps))
            if operation.action == "start" and found is not None:
                self.world.start(found.id, healthy=True)
                self._check_alive(found.id, operation.role, launch)
            if operation.action == "adopt" and found is not None:
                step.made(found)

    def _make(self, target: PlannedObject, launch: Launch, steps: Steps) -> Resource:
        labels = Labels(
            root=launch.root,
            bottle=launch.bottle,
            launch=launch.launch,
            role=target.role,
            step=target.state,
            spec=target.spec(steps.facts),
            epoch=steps.epoch,
        )
        networks = [self._one(launch, r).id for r in _NETWORKS.get(target.role, ())]
        made = self.world.create(target.kind, target.name, labels.as_dict(), networks=networks)
        if target.runs:
            self.world.start(made, healthy=True)
            self._check_alive(made, target.role, launch)
        return next(r for r in self.observe(launch).resources if r.id == made)

    def _check_alive(self, object_id: str, role: str, launch: Launch) -> None:
        found = next((o for o in self.world.objects() if o.id == object_id), None)
        if found is None or found.state != "running":
            code = found.exit_code if found else None
            raise SidecarExitedError(f"the {role} ended with code {code}", place=launch.bottle)

    def _remove(self, launch: Launch, steps: Steps, roles: Sequence[str]) -> None:
        for role in roles:
            for found in self.observe(launch).of_role(role):
                with steps.act(f"remove {role}", cause="teardown", role=role) as step:
                    self.world.remove(found.id)
                    step.made(_gone(found))

    def _one(self, launch: Launch, role: str) -> FakeObject:
        for found in self.world.objects():
            if _is_ours(found, launch) and found.labels[naming.LABEL_ROLE] == role:
                return found
        raise ProvisionError(f"there is no {role}", place=launch.bottle)

    def _ca(self, launch: Launch) -> str:
        return hashlib.sha256(self._one(launch, naming.ROLE_INTERCEPTOR).id.encode()).hexdigest()

    def _trusted(self, launch: Launch) -> str:
        try:
            return self.bottle(launch).read_file(CA_CERT_PATH).decode()
        except ProvisionError:
            return ""


def _is_ours(found: FakeObject, launch: Launch) -> bool:
    labels = Labels.of(found.labels)
    return labels is not None and labels.root == launch.root and labels.launch == launch.launch


def _resource(found: FakeObject, launch: Launch) -> Resource:
    labels = Labels.of(found.labels)
    return Resource(
        kind=found.kind,
        role=labels.role if labels else "",
        name=found.name,
        id=found.id,
        launch=labels.launch if labels else "",
        spec=labels.spec if labels else "",
        epoch=labels.epoch if labels else 0,
        state=found.state,
        healthy=found.healthy,
        foreign=not _is_ours(found, launch),
        detail={} if found.exit_code is None else {"exit_code": found.exit_code},
    )


def _gone(found: Resource) -> Resource:
    return Resource(found.kind, found.role, found.name, found.id, found.launch, found.spec, found.epoch, "absent")
