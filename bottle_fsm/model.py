"""The nouns that everyone may know: Host, Launch, Resource, Observed, Event. Plain data, no behaviour beyond itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

Json = dict[str, Any]
"""A JSON object, as journal, plan and `--json` carry it."""
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> bytes:
    """Return the bytes of a JSON value: keys sorted, no spaces, UTF-8. Equal values give equal bytes."""
    return _CANONICAL.encode(value).encode()


@dataclass(frozen=True, slots=True)
class Host:
    """What a backend may know of the machine that the launcher runs on.

    Attributes:
        root_id: random id of the state root; part of every label.
        state_dir: the state root, mode 0700.
        home: the user's home directory.
        environ: the launcher's environment; values from it are secret until the manifest says otherwise.
    """

    root_id: str
    state_dir: Path
    home: Path
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """One object in the world, as observed or as recorded.

    Attributes:
        kind: `container`, `network`, `volume`, `process` or `image`.
        role: what it is for, one of the roles in `naming`.
        name: its name; id: the engine's id, the only handle that is ever acted on.
        launch: the launch that made it; spec: the label `.spec`; epoch: the label `.epoch`.
        state: `created`, `running`, `exited`, `present` (things that do not run) or `absent` (recorded, since removed).
        healthy: answer of its health check; None when it has none.
        foreign: it has the name that we want but not our labels; it is never touched.
        detail: anything else worth recording (addresses, exit code); JSON values only.
    """

    kind: str
    role: str
    name: str
    id: str
    launch: str = ""
    spec: str = ""
    epoch: int = 0
    state: str = "present"
    healthy: bool | None = None
    foreign: bool = False
    detail: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the resource as a JSON object."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, value: Json) -> Resource:
        """Read a resource back from `to_json`."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Observed:
    """What one look at the world found of one launch: its objects, and foreign ones that stand in its way."""

    resources: tuple[Resource, ...] = ()

    def of_role(self, role: str) -> tuple[Resource, ...]:
        """Return our objects of a role, oldest first as the backend lists them; foreign ones are left out."""
        return tuple(r for r in self.resources if r.role == role and not r.foreign)

    @property
    def ours(self) -> tuple[Resource, ...]:
        """Return everything that carries our labels."""
        return tuple(r for r in self.resources if not r.foreign)


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of one bottle, as effects need to know it.

    Attributes:
        root: id of the state root. bottle: `<project>/<agent>`. launch: id of this launch. slug: see `naming.slug`.
        epoch: the number that this owner of the lock writes into labels and events.
        facts: what was chosen while acting and recorded since (image ids, subnets, addresses, CA fingerprint).
        recorded: every object that the journal says was made for this launch, with the id it had.
    """

    root: str
    bottle: str
    launch: str
    slug: str
    epoch: int
    facts: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One committed fact. The fields are final since the first release; `docs/events.md` describes each.

    Attributes:
        sequence: 1, 2, 3, … without a gap in one state root.
        time: UTC, ISO 8601 with microseconds and `Z`. monotonic: seconds of the boot's monotonic clock.
        boot: kernel boot id. run: id of the process run that wrote it. epoch: lock epoch of the bottle.
        actor: who: uid, user, pid, argv digest, host.
        kind: see `store.kinds`. trigger, source, dest: the machine's edge, where one is concerned.
        attempt: 1, 2, …; cause: why, in the words that plan, log and journal share.
        resources: objects made, adopted or removed. evidence: JSON of what was found or proved.
        duration: seconds that the step took.
        prev: hash of the event before; hash: SHA-256 over the stored bytes of this one (which hold `prev`).
    """

    sequence: int
    time: str
    monotonic: float
    boot: str
    run: str
    epoch: int
    actor: Json
    bottle: str
    launch: str
    machine: str
    spec: str
    kind: str
    trigger: str
    source: str
    dest: str
    attempt: int
    cause: str
    resources: tuple[Json, ...]
    evidence: Json
    error: str
    duration: float
    prev: str
    hash: str = ""

    def body(self) -> Json:
        """Return the fields that are hashed: all but `hash`."""
        value: Json = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "hash"}
        value["resources"] = list(self.resources)
        return value

    @classmethod
    def from_body(cls, value: Json, event_hash: str) -> Event:
        """Read an event back from its stored body."""
        return cls(**{**value, "resources": tuple(value["resources"])}, hash=event_hash)
