"""BottlePlan: the desired set of one bottle, as data.

Equal for equal inputs: no clock, no randomness, no secret values (names only), nothing of the world. What can only be
chosen while acting (an image's id, a free subnet) is a fact of the launch, recorded in the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from bottle_fsm.model import Json, canonical


def digest(value: Any) -> str:
    """Return the SHA-256 hex digest of a JSON value's canonical bytes."""
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """One object that shall exist.

    Attributes:
        role, kind, name: as in `model.Resource`.
        state: the machine state from which on it must be there (`proxies_up`, `mitm_up`, `agent_up`).
        inputs: its creation-time inputs: everything whose change means "make it again". JSON values only.
        facts: names of launch facts that are creation-time inputs, too (`image.guard`, `subnet.inside`).
        runs: it is a process or container that must be running; else it only has to exist.
        precious: it may hold the agent's work: never replaced or removed without a person's consent.
    """

    role: str
    kind: str
    name: str
    state: str
    inputs: Json
    facts: tuple[str, ...] = ()
    runs: bool = False
    precious: bool = False

    def spec(self, facts: Mapping[str, str]) -> str:
        """Return the digest that stands in the object's label `.spec`, given the launch's facts."""
        return digest({"inputs": self.inputs, "facts": {name: facts.get(name, "") for name in self.facts}})[:32]

    def to_json(self) -> Json:
        """Return the object as a JSON object."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "facts": list(self.facts)}

    @classmethod
    def from_json(cls, value: Json) -> PlannedObject:
        """Read an object back from `to_json`."""
        return cls(**{**value, "facts": tuple(value["facts"])})


@dataclass(frozen=True, slots=True)
class ProvisionItem:
    """What one provisioner shall put inside, as data; `asked` False means that it is skipped, with `reason`.

    `inputs` holds texts, digests, host paths and targets; never a secret value.
    """

    name: str
    asked: bool
    reason: str = ""
    inputs: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the item as a JSON object."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class BottlePlan:
    """The whole plan of one bottle. Backends subclass it to add what only they know.

    Attributes:
        bottle, slug: names. backend: which backend carries it out. spec: digest of the manifest part it was made from.
        endpoint: which engine it is for (address and identity), compared by every later verb.
        guard: the guard engine, `pipelock` or `builtin`, and `guard_reason`, why that one.
        objects: what shall exist, in order of creation.
        policy: the reach: `allow` as rules in long form (see `plan.rules`), `ssh` as pairs of host and port, `hosts` as
            static name → address. `plan.build.launch_policy` makes of it what the sidecars get.
        env: the agent's literal variables. secrets: names of its secret variables, with where each may go.
        injections: what the interceptor puts into requests: rule, kind, name, template of the value, and placeholders.
        provision: one item for each name of `PROVISION_ORDER` after `ca`.
        warnings: what a person should know before saying yes. isolation: what the backend gives, shown in the plan.
    """

    VERSION: ClassVar[int] = 1

    bottle: str
    slug: str
    backend: str
    spec: str
    endpoint: Json
    guard: str
    guard_reason: str
    objects: tuple[PlannedObject, ...]
    policy: Json
    env: Mapping[str, str]
    secrets: Mapping[str, tuple[str, ...]]
    provision: tuple[ProvisionItem, ...]
    warnings: tuple[str, ...] = ()
    isolation: tuple[str, ...] = ()
    injections: tuple[Json, ...] = ()

    def object(self, role: str) -> PlannedObject:
        """Return the planned object of a role that has exactly one."""
        return next(o for o in self.objects if o.role == role)

    def item(self, name: str) -> ProvisionItem:
        """Return what a provisioner is asked for; a name without an item is not asked for anything."""
        missing = ProvisionItem(name, asked=False, reason="nothing asked")
        return next((i for i in self.provision if i.name == name), missing)

    @property
    def digest(self) -> str:
        """Return the digest of the whole plan."""
        return digest(self.to_json())

    def to_json(self) -> Json:
        """Return the plan as a JSON object; the journal stores this."""
        value: Json = {f.name: getattr(self, f.name) for f in fields(self)}
        value["version"] = self.VERSION
        value["objects"] = [o.to_json() for o in self.objects]
        value["provision"] = [i.to_json() for i in self.provision]
        value["secrets"] = {name: list(to) for name, to in self.secrets.items()}
        value["env"] = dict(self.env)
        value["warnings"] = list(self.warnings)
        value["isolation"] = list(self.isolation)
        value["injections"] = list(self.injections)
        return value

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read a plan back from `to_json`."""
        known = {k: v for k, v in value.items() if k != "version"}
        known["objects"] = tuple(PlannedObject.from_json(o) for o in value["objects"])
        known["provision"] = tuple(ProvisionItem(**i) for i in value["provision"])
        known["secrets"] = {name: tuple(to) for name, to in value["secrets"].items()}
        known["warnings"] = tuple(value["warnings"])
        known["isolation"] = tuple(value["isolation"])
        known["injections"] = tuple(value.get("injections", ()))
        return cls(**known)
