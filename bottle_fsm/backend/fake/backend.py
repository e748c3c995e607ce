"""FakeBackend: the whole protocol on a simulated engine. Same plan, same order, same looks; nothing real is started."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Final

from bottle_fsm import naming
from bottle_fsm.backend import delivery
from bottle_fsm.backend.base import PROVISION_ORDER, BottleBackend
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.backend.fake.hands import Hands
from bottle_fsm.backend.fake.look import PROXIES, everything, gone, look, one
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.backend.trust import FACT_CA
from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import BackendError, DecisionNeededError, DriftError, GateError, ProvisionError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json, Launch, Observed, Resource, canonical
from bottle_fsm.places import AGENT_ENV_FILE, CA_CERT_PATH
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject, ProvisionItem
from bottle_fsm.plan.build import common_parts
from bottle_fsm.provision.provisioner import Provisioner
from bottle_fsm.provision.sources import read_sources
from bottle_fsm.steps import Step, Steps, removal

WORLD_FILE: Final = "fake-world.json"


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
            naming.ROLE_INTERCEPTOR: {"policy": common.policy, "delivered": common.delivered},
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
                *((r, "proxies_up") for r in PROXIES),
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
            injections=common.injections,
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
        Hands(world=self.world, launch=launch, steps=steps).bring(plan, PROXIES)

    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the interceptor; its CA is a digest of its id, so that another interceptor has another CA."""
        hands = Hands(world=self.world, launch=launch, steps=steps)
        hands.check(naming.ROLE_GUARD)
        hands.bring(plan, (naming.ROLE_INTERCEPTOR,))
        delivery.for_interceptor(plan, steps)  # a value that is not to be had now stops this launch as it would any
        if steps.facts.get(FACT_CA) == self._ca(launch):
            return
        with steps.act("record the CA", cause="the interceptor runs", role=naming.ROLE_INTERCEPTOR) as step:
            step.fact(FACT_CA, self._ca(launch))

    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Make the agent; immediately before, both sidecars are looked at once more."""
        hands = Hands(world=self.world, launch=launch, steps=steps)
        for role in (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR):
            hands.check(role)
        hands.bring(plan, (naming.ROLE_AGENT,))
        self._deliver(plan, launch, steps)

    def provision_ca(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Put the fingerprint where the certificate would be, and prove it with one simulated tool."""
        ca = self._ca(launch)
        if self._trusted(launch) == ca:
            steps.skip("ca", reason="the agent has this CA already")
        else:
            with steps.act("ca", cause="the agent does not trust the bottle's CA", role=naming.ROLE_AGENT):
                self.bottle(launch).copy_in(ca.encode(), CA_CERT_PATH, owner="root")
        steps.evidence("ca_sha256", ca)
        steps.evidence("trust_matrix", [_trust_row(ok=True)])

    def prove_trust(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Let the simulated tool look at the certificate."""
        self._one(launch, naming.ROLE_AGENT)
        ok = self._trusted(launch) == self._ca(launch)
        steps.evidence("trust_matrix", [_trust_row(ok=ok)])
        if not ok:
            raise GateError("not trusted: simulated", place=launch.bottle)

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
        """Compare recorded CA, the interceptor's, and the one that the agent trusts; and whether secrets are there."""
        if any(one(self.world, launch, role) is None for role in (naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)):
            return "a container is gone"
        recorded = launch.facts.get(FACT_CA, "")
        wrong = []
        if self._ca(launch) != recorded:
            wrong.append("the interceptor has another CA than the recorded one")
        elif self._trusted(launch) != recorded:
            wrong.append("the agent does not trust the bottle's CA")
        if not self._has_secrets(launch):
            wrong.append("the agent's secrets are not delivered")
        return "; ".join(wrong)

    # -- down --------------------------------------------------------------------------------------------------------

    def stop_agent(self, launch: Launch, steps: Steps) -> None:
        """Remove the agent."""
        Hands(world=self.world, launch=launch, steps=steps).take_away((naming.ROLE_AGENT,))

    def stop_mitm(self, launch: Launch, steps: Steps) -> None:
        """Remove the interceptor."""
        Hands(world=self.world, launch=launch, steps=steps).take_away((naming.ROLE_INTERCEPTOR,))

    def stop_proxies(self, launch: Launch, steps: Steps) -> None:
        """Remove the guard, then the networks."""
        Hands(world=self.world, launch=launch, steps=steps).take_away(tuple(reversed(PROXIES)))

    # -- looking -----------------------------------------------------------------------------------------------------

    def observe(self, launch: Launch) -> Observed:
        """List by label; objects of other owners that hold our names are foreign."""
        return look(self.world, launch)

    def everything(self, root: str | None) -> tuple[Resource, ...]:
        """List all objects that carry our labels."""
        return everything(self.world, root)

    def remove(self, resource: Resource, steps: Steps, *, cause: str) -> None:
        """Remove one object."""
        with steps.act(removal(resource.role), cause=cause, role=resource.role) as step:
            self.world.remove(resource.id)
            step.made(gone(resource))

    def bottle(self, launch: Launch) -> Bottle:
        """Return the handle into the simulated agent."""
        return FakeBottle(self.world, self._one(launch, naming.ROLE_AGENT).id, launch.bottle)

    def logs(self, launch: Launch, role: str, tail: int | None, *, since: float = 0.0) -> bytes:
        """Return what a simulated container wrote; no container writes anything by itself."""
        said = self.world.log(launch.launch, role).encode()
        if not said:
            return super().logs(launch, role, tail, since=since)
        return said if tail is None else b"".join(said.splitlines(keepends=True)[-tail:])

    # -- inside ------------------------------------------------------------------------------------------------------

    def _one(self, launch: Launch, role: str) -> FakeObject:
        found = one(self.world, launch, role)
        if found is None:
            raise DriftError(f"there is no {role}", place=launch.bottle)
        return found

    def _ca(self, launch: Launch) -> str:
        return hashlib.sha256(self._one(launch, naming.ROLE_INTERCEPTOR).id.encode()).hexdigest()

    def _trusted(self, launch: Launch) -> str:
        try:
            return self.bottle(launch).read_file(CA_CERT_PATH).decode()
        except BackendError:
            return ""

    def _has_secrets(self, launch: Launch) -> bool:
        try:
            self.bottle(launch).read_file(AGENT_ENV_FILE)
        except BackendError:
            return False
        return True

    def _deliver(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Leave a file with the names of the secrets where their values would be: the world is a file on this host."""
        _, names = delivery.for_agent(plan, steps)  # a value that is not to be had now stops this launch, too
        role = naming.ROLE_AGENT
        with steps.act(f"deliver secrets to {role}", cause="they live on tmpfs only", role=role) as step:
            self.bottle(launch).copy_in("".join(f"{n}\n" for n in names).encode(), AGENT_ENV_FILE, mode=0o600)
            step.evidence("names", names)


def _trust_row(*, ok: bool) -> Json:
    detail = "" if ok else "the agent has another certificate"
    return {"tool": "simulated", "version": "", "ok": ok, "detail": detail, "remedy": ""}
