"""DockerBottlePlan: what shall exist on an engine for one bottle, as data. Pure.

Addresses and image ids are facts of the launch: they are chosen while acting, so the plan names them only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final, Self

from bottle_fsm import naming
from bottle_fsm.backend.docker import addresses
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject

GENERATOR: Final = 1
"""Goes up when this module makes other containers from the same inputs."""


def image_fact(role: str) -> str:
    """Return the name of the fact that holds the image id of a container."""
    return f"image.{role}"


def subnet_fact(role: str) -> str:
    """Return the name of the fact that holds the subnet of a network."""
    return f"subnet.{role}"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """One network.

    Attributes:
        role, name: as in `naming`. internal: no way out. options: of the bridge driver.
        pool, prefix, seed: which subnets are tried, in an order that depends on `seed`.
        existing: the user's own network of this name, which is joined and never changed; empty for one of ours.
    """

    role: str
    name: str
    internal: bool
    options: Mapping[str, str]
    pool: tuple[str, ...]
    prefix: int
    seed: str
    existing: str = ""

    def candidates(self) -> Iterator[str]:
        """Yield the subnets to try, in order."""
        return addresses.candidates(self.pool, self.prefix, self.seed)

    def planned(self) -> PlannedObject:
        """Return the network as the plan's common part knows it; the pool only says where a new one is looked for."""
        inputs = {"generator": GENERATOR, "internal": self.internal, "ipv6": False, "options": dict(self.options)}
        return PlannedObject(self.role, "network", self.name, "proxies_up", inputs)


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One container.

    Attributes:
        role, name: as in `naming`. image: its reference; ours: the name of our own image that it is, else empty.
        argv: the command, complete. entrypoint: None keeps the image's.
        user: numeric uid and gid. env: literal variables; those that hold an address are added when it is known.
        tmpfs: path → mount options. sysctls, dns, dns_opt, extra_hosts: as the engine takes them.
        memory, cpus, pids: limits. runtime: empty for the engine's default.
        hardening: what else holds it (`hardening.hardening_json`).
        files: digests of what is copied in before the start or delivered after it, by what it is.
        networks: roles of the networks it joins, the first one when it is created.
        health: a command inside that succeeds when it is ready; empty for none.
    """

    ROLE: ClassVar[str] = ""
    STATE: ClassVar[str] = ""
    PRECIOUS: ClassVar[bool] = False

    name: str
    image: str
    ours: str
    argv: tuple[str, ...]
    user: str
    networks: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    memory: int = 512 << 20
    cpus: float = 0.0
    pids: int = 256
    runtime: str = ""
    workdir: str = ""
    hardening: Json = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    health: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """Return the container's role."""
        return self.ROLE

    def planned(self) -> PlannedObject:
        """Return the container as the plan's common part knows it."""
        inputs = {"generator": GENERATOR, **_plain(self)}
        facts = (
            image_fact(self.ROLE),
            *(subnet_fact(role) for role in self.networks if role != naming.ROLE_NET_OUTSIDE),
        )
        return PlannedObject(
            self.ROLE, "container", self.name, self.STATE, inputs, facts, runs=True, precious=self.PRECIOUS
        )

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read it back from its JSON object."""
        known: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ProxyPlan(ContainerPlan):
    """The guard. `engine` is `builtin` or `pipelock`."""

    ROLE: ClassVar[str] = naming.ROLE_GUARD
    STATE: ClassVar[str] = "proxies_up"

    engine: str = "builtin"


@dataclass(frozen=True, slots=True)
class MitmproxyProxyPlan(ContainerPlan):
    """The interceptor. `upstream_ca` holds further roots (PEM texts) that it trusts for real servers."""

    ROLE: ClassVar[str] = naming.ROLE_INTERCEPTOR
    STATE: ClassVar[str] = "mitm_up"

    upstream_ca: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentPlan(ContainerPlan):
    """The agent. `command` is what `attach` runs; `bind` is a host directory to be mounted as workspace, or empty."""

    ROLE: ClassVar[str] = naming.ROLE_AGENT
    STATE: ClassVar[str] = "agent_up"
    PRECIOUS: ClassVar[bool] = True

    command: tuple[str, ...] = ()
    bind: str = ""


@dataclass(frozen=True, kw_only=True)
class DockerBottlePlan(BottlePlan):
    """The plan of a bottle on a Docker engine."""

    networks: tuple[NetworkPlan, ...]
    proxy_plan: ProxyPlan
    mitmproxy_plan: MitmproxyProxyPlan
    agent_plan: AgentPlan

    def network(self, role: str) -> NetworkPlan:
        """Return the network of a role."""
        return next(network for network in self.networks if network.role == role)

    def to_json(self) -> Json:
        """Return the plan as a JSON object; the journal stores this."""
        return {
            **super().to_json(),
            "networks": [_plain(network) for network in self.networks],
            "proxy_plan": _plain(self.proxy_plan),
            "mitmproxy_plan": _plain(self.mitmproxy_plan),
            "agent_plan": _plain(self.agent_plan),
        }

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read a plan back from `to_json`."""
        return super().from_json(
            {
                **value,
                "networks": tuple(NetworkPlan(**{**n, "pool": tuple(n["pool"])}) for n in value["networks"]),
                "proxy_plan": ProxyPlan.from_json(value["proxy_plan"]),
                "mitmproxy_plan": MitmproxyProxyPlan.from_json(value["mitmproxy_plan"]),
                "agent_plan": AgentPlan.from_json(value["agent_plan"]),
            }
        )


def _plain(value: Any) -> Json:
    """Return a dataclass as JSON: tuples become lists, so that a round trip through text compares equal."""

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: plain(inner) for key, inner in item.items()}
        return [plain(inner) for inner in item] if isinstance(item, (list, tuple)) else item

    result: Json = plain(asdict(value))
    return result
