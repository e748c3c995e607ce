"""LaunchBench: one bottle on the real engine, driven effect by effect, and taken away whatever a test left."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bottle_fsm import naming
from bottle_fsm.backend.docker.backend import DockerBackend
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.plan import DockerBottlePlan
from bottle_fsm.errors import BottleError
from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Host, Launch, Resource
from docker_backend.memory_steps import MemorySteps
from lean_image import LEAN

CANARY = "canary-4f1c9e77-secret-value"


def manifest(**reach: Any) -> Manifest:
    """Return a manifest of one agent; `reach` overrides what its bottle may do."""
    wish: dict[str, Any] = {
        "image": LEAN,
        "egress": {"guard": "builtin", "allow": ["example.org"]},
        "env": {"GREETING": "hello", "TOKEN": {"from": "${TOKEN}", "secret": True, "to": ["example.org"]}},
        "resources": {"memory": "256m", "cpus": 1.0, "pids": 64},
        **reach,
    }
    return Manifest.model_validate(
        {"version": 1, "name": "bench", "bottles": {"dev": wish}, "agents": {"worker": {"bottle": "dev"}}}
    )


def make_container(api: Any, config: dict[str, Any], name: str) -> str:
    """Create a container of the test's own, and return its id."""
    return str(api.create_container_from_config(config, name)["Id"])


@dataclass
class LaunchBench:
    """A backend, a plan, a launch, and steps that outlive a simulated death of the launcher."""

    engine: Engine
    host: Host
    spec: BottleSpec
    steps: MemorySteps = field(default_factory=lambda: MemorySteps(secrets={"TOKEN": CANARY}))
    launch_id: str = "launch-1"

    def __post_init__(self) -> None:
        self.backend = DockerBackend(self.host)
        self.plan = self.backend.prepare(self.spec)
        assert isinstance(self.plan, DockerBottlePlan)

    @classmethod
    def make(cls, engine: Engine, tmp_path: Path, wish: Manifest) -> LaunchBench:
        path = tmp_path / "bench.yaml"
        environ = {"DOCKER_HOST": engine.url, "TOKEN": CANARY, "HOME": str(tmp_path)}
        host = Host(f"root-{secrets.token_hex(6)}", tmp_path / "state", tmp_path, environ)
        host.state_dir.mkdir(exist_ok=True)
        return cls(engine, host, specs(wish, path)[0])

    @property
    def launch(self) -> Launch:
        return Launch(
            root=self.host.root_id,
            bottle=self.spec.bottle,
            launch=self.launch_id,
            slug=naming.slug(self.host.root_id, self.spec.project, self.spec.agent),
            epoch=self.steps.epoch,
            facts=dict(self.steps.facts),
            recorded=tuple(self.steps.resources()),
        )

    def proxies(self) -> None:
        self.backend.start_proxies(self.plan, self.launch, self.steps)

    def mitm(self) -> None:
        self.backend.start_mitm(self.plan, self.launch, self.steps)

    def agent(self) -> None:
        self.backend.start_agent(self.plan, self.launch, self.steps)

    def up(self) -> None:
        self.proxies()
        self.mitm()
        self.agent()

    def down(self) -> None:
        self.backend.stop_agent(self.launch, self.steps)
        self.backend.stop_mitm(self.launch, self.steps)
        self.backend.stop_proxies(self.launch, self.steps)

    def reborn(self, **changes: Any) -> None:
        """Go on as the next launcher: same journal, new epoch, death forgotten."""
        before = self.steps
        self.steps = MemorySteps(epoch=before.epoch + 1, secrets={"TOKEN": CANARY})
        self.steps.known, self.steps.world = dict(before.known), dict(before.world)
        for name, value in changes.items():
            setattr(self.steps, name, value)
        self.backend = DockerBackend(self.host, self.plan.endpoint)

    def mend(self) -> None:
        """Bring the bottle to where its agent runs as first planned, whatever a test did to it; anew if need be."""
        self.plan = self.backend.resolve_plan(self.spec)
        try:
            self.reborn(agrees=True)
            self.up()
        except BottleError:
            self.clean()
            self.steps = MemorySteps(secrets={"TOKEN": CANARY})
            self.up()
        self.steps.done.clear()
        self.steps.skipped.clear()
        self.steps.agrees = False

    def replan(self, **changes: Any) -> None:
        """Change parts of the plan as if the generator had made it so."""
        plan = self.plan
        assert isinstance(plan, DockerBottlePlan)
        made = replace(plan, **changes)
        own = [network.planned() for network in made.networks if not network.existing]
        containers = [part.planned() for part in (made.proxy_plan, made.mitmproxy_plan, made.agent_plan)]
        self.plan = replace(made, objects=(*own, *containers))

    def one(self, role: str) -> Resource:
        (found,) = self.backend.observe(self.launch).of_role(role)
        return found

    def bottle(self) -> DockerBottle:
        handle = self.backend.bottle(self.launch)
        assert isinstance(handle, DockerBottle)
        return handle

    def labelled(self) -> list[str]:
        """Return the names of everything on the engine that carries this root's label."""
        label = {"label": f"{naming.LABEL_ROOT}={self.host.root_id}"}
        with self.engine.guarded("list what is labelled") as api:
            found = [item["Names"][0] for item in api.containers(all=True, filters=label)]
            found += [item["Name"] for item in api.networks(filters=label)]
            found += [item["Name"] for item in api.volumes(filters=label).get("Volumes") or []]
        return sorted(found)

    def clean(self) -> None:
        """Remove what is left, by label and by name: tests leave nothing even when they fail."""
        label = {"label": f"{naming.LABEL_ROOT}={self.host.root_id}"}
        names = [f"^/{naming.object_name(role, self.launch.slug)}$" for role in ("guard", "interceptor", "agent")]
        with self.engine.guarded("clean up after a test", timeout=60.0) as api:
            containers = {c["Id"] for c in api.containers(all=True, filters=label)}
            containers |= {c["Id"] for c in api.containers(all=True, filters={"name": names})}
            for object_id in containers:
                api.remove_container(object_id, force=True, v=True)
            for network in api.networks(filters=label):
                for member in api.inspect_network(network["Id"]).get("Containers") or {}:
                    api.disconnect_container_from_network(member, network["Id"], force=True)
                api.remove_network(network["Id"])
            for volume in api.volumes(filters=label).get("Volumes") or []:
                with contextlib.suppress(Exception):
                    api.remove_volume(volume["Name"])
