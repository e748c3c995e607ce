"""BottleBackend: what every backend must do, and what none can forget.

`prepare` is a template method: the cross-backend validation always runs before the subclass's `resolve_plan`.
`provision` walks one order for all backends. Effects record through `Steps` and look before they act.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final, final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import BackendError, GateError, NoLogError, ValidationError
from bottle_fsm.manifest.hostcheck import validate_host
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json, Launch, Observed, Resource
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.provision import PROVISIONERS
from bottle_fsm.provision.provisioner import Provisioner
from bottle_fsm.provision.selftest import run_selftest
from bottle_fsm.provision.trustgate import STEP as TRUST_STEP
from bottle_fsm.steps import Steps

PROVISION_ORDER: Final = ("ca", "prompt", "skills", "ssh", "git")
"""Trust first, then everything else. The one place that orders provisioning."""


class BottleBackend(ABC):
    """A place where bottles live.

    Attributes:
        name: as `backend:` in the manifest and `--backend` write it.
        provisioners: what puts each name of `PROVISION_ORDER` inside.
        intercepts_tls: whether the backend opens the agent's TLS; if not, `mitm_up` and `ca_trusted` are skipped.
        settle: seconds that an effect of a dead launcher may take to arrive; two looks this far apart settle it.
        plan_type: the class that `load_plan` reads a recorded plan back into.
    """

    name: ClassVar[str] = "minimal"
    intercepts_tls: ClassVar[bool] = False
    no_interception_reason: ClassVar[str] = "this backend does not intercept TLS"
    settle: ClassVar[float] = 0.0
    plan_type: ClassVar[type[BottlePlan]] = BottlePlan
    provisioners: ClassVar[Mapping[str, Provisioner]] = PROVISIONERS

    def __init__(self, host: Host) -> None:
        self.host = host

    # -- before anything exists --------------------------------------------------------------------------------------

    @final
    def prepare(self, spec: BottleSpec) -> BottlePlan:
        """Validate, then plan. Neither has a side effect: this is the dry run.

        Raises:
            ValidationError: see `validate`.
        """
        self.validate(spec)
        return self.resolve_plan(spec)

    def validate(self, spec: BottleSpec) -> None:
        """Check what every backend needs: the agent exists, named skills are on this host, SSH identity files resolve.

        A backend with more preconditions overrides this and chains through `super().validate(spec)`.

        Raises:
            ValidationError: holds every problem found.
        """
        problems = validate_host(spec, self.host)
        if problems:
            raise ValidationError(problems)

    @abstractmethod
    def resolve_plan(self, spec: BottleSpec) -> BottlePlan:
        """Return the plan for a validated spec: no side effect, equal for equal inputs."""

    def load_plan(self, value: Json) -> BottlePlan:
        """Read a recorded plan back."""
        return self.plan_type.from_json(value)

    def check_endpoint(self, plan: BottlePlan) -> None:  # noqa: B027 - a backend without an engine has nothing to compare
        """Make sure that this backend talks to the engine that the plan was recorded for.

        Raises:
            DecisionNeededError: another engine answers at the recorded address.
        """

    # -- up ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def start_proxies(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up images, networks and the guard, and wait until the guard answers its health check."""

    @abstractmethod
    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the interceptor, record its CA's fingerprint, and see that it reaches the guard."""

    @abstractmethod
    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Bring up the agent on the inside network only."""

    def provision_ca(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Make the agent trust the bottle's CA. Does nothing where no TLS is intercepted."""
        steps.skip("ca", reason=self.no_interception_reason)

    def prove_trust(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:  # noqa: ARG002 - the hook's signature
        """Prove by requests from inside that the agent trusts the bottle's CA; the rows are evidence. Repairs nothing.

        Raises:
            GateError: a row failed, or nothing could prove it.
        """
        if self.intercepts_tls:
            raise GateError(f"the backend {self.name} has no way to prove trust", place=launch.bottle)
        steps.skip(TRUST_STEP, reason=self.no_interception_reason)

    def provision(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Put everything inside, in `PROVISION_ORDER`, then run the egress self-test.

        `ca` runs again here when it was done before: it verifies, and repairs only what is missing.
        """
        bottle = self.bottle(launch)
        for name in PROVISION_ORDER:
            if name == "ca":
                self.provision_ca(plan, launch, steps)
                continue
            item = plan.item(name)
            if not item.asked:
                steps.skip(name, reason=item.reason or "nothing asked")
                continue
            provisioner = self.provisioners[name]
            with steps.act(name, cause="manifest asks for it") as step:
                provisioner.apply(bottle, item, steps, step)
                provisioner.verify(bottle, item)
        self.selftest(plan, launch, steps)

    def selftest(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Prove from inside what gets out and what does not; the rows are evidence, a failed row fails the launch.

        Raises:
            GateError: names the rows that failed.
        """
        run_selftest(self.bottle(launch), plan, self.selftest_probes(plan, launch), steps)

    def selftest_probes(self, plan: BottlePlan, launch: Launch) -> Mapping[str, str]:  # noqa: ARG002 - the hook's signature
        """Return addresses that the self-test must find unreachable: what they are → `host:port`. None by default."""
        return {}

    # -- down --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def stop_agent(self, launch: Launch, steps: Steps) -> None:
        """Remove the agent and what belongs to it alone."""

    @abstractmethod
    def stop_mitm(self, launch: Launch, steps: Steps) -> None:
        """Remove the interceptor."""

    @abstractmethod
    def stop_proxies(self, launch: Launch, steps: Steps) -> None:
        """Remove the guard, then the networks and volumes."""

    # -- looking -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def observe(self, launch: Launch) -> Observed:
        """Look at the world by label, and by recorded name and id; report foreign objects that hold our names."""

    def everything(self, root: str | None) -> tuple[Resource, ...]:  # noqa: ARG002 - the hook's signature
        """Return every object here that carries all our labels, whichever launch made it; of one state root, or of all.

        `detail` says whose it is (`root`, `bottle`) and where it lives (`engine`, a text that tells engines apart).
        """
        return ()

    def remove(self, resource: Resource, steps: Steps, *, cause: str) -> None:
        """Remove one object that `everything` returned, as a sub-step, and see that it is gone.

        Raises:
            BackendError: it cannot be removed.
        """
        del steps, cause
        raise BackendError(f"the backend {self.name} cannot remove a single object", place=resource.name)

    @abstractmethod
    def bottle(self, launch: Launch) -> Bottle:
        """Return the handle into the running bottle."""

    def logs(self, launch: Launch, role: str, tail: int | None, *, since: float = 0.0) -> bytes:
        """Return what the container of `role` wrote, from somewhere to its end.

        Args:
            launch: whose container.
            role: which of them.
            tail: the last so many lines; None for all that is there.
            since: what was written before this time (seconds since 1970) is not needed; a hint, more may come.

        Raises:
            NoLogError: there is no such container, or this backend keeps no logs.
        """
        del tail, since
        raise NoLogError(
            f"the backend {self.name} keeps no logs of {role}",
            place=launch.bottle,
            hint=f"`bottle-fsm audit {launch.bottle}` shows what was recorded.",
        )

    def drift(self, plan: BottlePlan, launch: Launch) -> str:  # noqa: ARG002 - the hook's signature
        """Say what of a provisioned bottle is not as recorded although every object is there; empty when all is well.

        The place to compare the CA (recorded = sidecar's = in the agent's store) and the policy that the sidecars have.
        """
        return ""

    def unsaved_work(self, launch: Launch) -> str:  # noqa: ARG002 - the hook's signature
        """Say what would be lost if the agent went now, in a few words; empty when nothing would be."""
        return ""
