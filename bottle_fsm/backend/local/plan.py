"""LocalBottlePlan: what shall exist on this machine for one bottle, as data. Pure.

Two directories with sockets stand where an engine has networks; guard, interceptor and agent are sandboxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from bottle_fsm import naming
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject

GENERATOR: Final = 3
"""Goes up when this backend makes other sandboxes from the same inputs."""
DOORS: Final = (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN)
SANDBOXES: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
ROLES: Final = (*DOORS, *SANDBOXES)
_STATES: Final = {naming.ROLE_INTERCEPTOR: "mitm_up", naming.ROLE_AGENT: "agent_up"}


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """One sandbox.

    Attributes:
        role, name: as in `naming`. argv: the program that it runs; empty for one that waits for commands.
        bridges: pairs of places between which its first process carries bytes. env: literal variables.
        limits: resource limits by name. network: shares the host's network. files: digests of what it is given, by what
        it is. bind: host directory that is the workspace; empty for one of its own. command: what `attach` runs.
        memory, cpus: limits where a cgroup is delegated, and of each directory in memory; 0 for none.
    """

    role: str
    name: str
    argv: tuple[str, ...] = ()
    bridges: tuple[tuple[str, str], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    network: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    bind: str = ""
    command: tuple[str, ...] = ()
    memory: int = 0
    cpus: float = 0.0

    def planned(self) -> PlannedObject:
        """Return the sandbox as the plan's common part knows it."""
        return PlannedObject(
            role=self.role,
            kind="process",
            name=self.name,
            state=_STATES.get(self.role, "proxies_up"),
            inputs={"generator": GENERATOR, **self.to_json()},
            runs=True,
            precious=self.role == naming.ROLE_AGENT,
        )

    def to_json(self) -> Json:
        """Return it as a JSON object, with lists for tuples."""
        plain: Json = {**asdict(self), "env": dict(self.env), "limits": dict(self.limits), "files": dict(self.files)}
        return {key: _listed(value) for key, value in plain.items()}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read it back."""
        known: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        known["bridges"] = tuple((first, second) for first, second in value["bridges"])
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class LocalBottlePlan(BottlePlan):
    """The plan of a bottle on this machine. `upstream_ca` holds further roots (PEM) for the interceptor."""

    sandboxes: tuple[SandboxPlan, ...]
    upstream_ca: tuple[str, ...] = ()

    def sandbox(self, role: str) -> SandboxPlan:
        """Return the sandbox of a role."""
        return next(box for box in self.sandboxes if box.role == role)

    def to_json(self) -> Json:
        """Return the plan as a JSON object; the journal stores this."""
        own = {"sandboxes": [box.to_json() for box in self.sandboxes], "upstream_ca": list(self.upstream_ca)}
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read a plan back from `to_json`."""
        own = {
            "sandboxes": tuple(SandboxPlan.from_json(box) for box in value["sandboxes"]),
            "upstream_ca": tuple(value["upstream_ca"]),
        }
        return super().from_json({**value, **own})


def door(role: str, name: str) -> PlannedObject:
    """Return the planned directory of the sockets between two sandboxes."""
    return PlannedObject(role, "directory", name, "proxies_up", {"generator": GENERATOR})


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
