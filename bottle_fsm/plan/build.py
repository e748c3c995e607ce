"""The part of a plan that every backend shares. Pure: what the host was asked stands in `HostSources`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import ProvisionItem

if TYPE_CHECKING:
    from bottle_fsm.manifest.spec import BottleSpec


@dataclass(frozen=True, slots=True)
class HostSources:
    """What `provision.sources.read_sources(spec, host)` found on this host. Digests and names, never contents.

    Attributes:
        skills: one JSON object a skill: name, host path, digest, files, bytes.
        workspace: JSON object about the workspace's source: path, mode, kind, files, bytes, suspects (likely secrets).
        warnings: what a person should know about the sources.
    """

    skills: tuple[Json, ...] = ()
    workspace: Json = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommonParts:
    """The backend-neutral fields of a `BottlePlan`; `BottlePlan(**vars-like fields of this, backend=…, …)`."""

    env: Mapping[str, str]
    secrets: Mapping[str, tuple[str, ...]]
    policy: Json
    provision: tuple[ProvisionItem, ...]
    warnings: tuple[str, ...]
    spec: str
    command: tuple[str, ...]


def common_parts(spec: BottleSpec, sources: HostSources) -> CommonParts:
    """Return the shared part of the plan for a validated spec."""
    raise NotImplementedError
