"""BottleSpec: what the manifest says about one bottle, ready to be stored and compared. Pure.

Not its duty: looking at this host. A spec may name an agent that its manifest lacks; `hostcheck` reports that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bottle_fsm.manifest.model import Agent, Manifest
from bottle_fsm.manifest.reach import Reach
from bottle_fsm.manifest.strict import Strict
from bottle_fsm.model import Json, canonical
from bottle_fsm.naming import bottle_name


class BottleSpec(Strict):
    """One bottle as wanted. Holds no secret value: a manifest cannot.

    Attributes:
        project: the project's name. agent: the agent's name.
        manifest_path: absolute real path of the manifest file.
        manifest: the manifest, reduced to this agent and its reach, as far as they exist.
    """

    project: str
    agent: str
    manifest_path: str
    manifest: Manifest

    @property
    def bottle(self) -> str:
        """The name by which people call it: `<project>/<agent>`."""
        return bottle_name(self.project, self.agent)

    @property
    def agent_model(self) -> Agent | None:
        """The agent; None when the manifest has none of this name."""
        return self.manifest.agents.get(self.agent)

    @property
    def reach(self) -> Reach | None:
        """The agent's reach; None when agent or reach is missing."""
        agent = self.agent_model
        return None if agent is None else self.manifest.bottles.get(agent.bottle)

    @property
    def base_dir(self) -> Path:
        """The directory that relative paths of the manifest start from."""
        return Path(self.manifest_path).parent

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the user said: equal for equal wishes, spelled-out defaults included.

        Defaults are left out, so that a release that adds a key does not make every stored bottle look changed.
        """
        wish = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return hashlib.sha256(canonical(wish)).hexdigest()

    def to_json(self) -> Json:
        """Return the spec as a JSON object, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, value: Json) -> BottleSpec:
        """Read a spec back from `to_json`."""
        return cls.model_validate(value)


def specs(manifest: Manifest, path: Path, agents: Sequence[str] = ()) -> tuple[BottleSpec, ...]:
    """Return one spec for each agent of the manifest, in its order, or for the agents that are named.

    Args:
        manifest: the whole manifest.
        path: its absolute real path.
        agents: names to choose; one that the manifest lacks still gives a spec.
    """
    return tuple(_spec(manifest, path, agent) for agent in agents or tuple(manifest.agents))


def _spec(manifest: Manifest, path: Path, name: str) -> BottleSpec:
    agent = manifest.agents.get(name)
    reach = manifest.bottles.get(agent.bottle) if agent else None
    reduced = manifest.model_copy(
        update={
            "agents": {name: agent} if agent else {},
            "bottles": {agent.bottle: reach} if agent and reach else {},
        }
    )
    return BottleSpec(project=manifest.name, agent=name, manifest_path=str(path), manifest=reduced)
