"""The agent's container: idle, on the inside network only, with its secrets on tmpfs.

Not its duty: trust, prompt, skills and the like; provisioning brings them through the handle.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from bottle_fsm import naming
from bottle_fsm.archive import Member
from bottle_fsm.backend import delivery
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.containers import Container
from bottle_fsm.backend.docker.plan import AgentPlan, image_fact
from bottle_fsm.backend.docker.work import Ground, Work
from bottle_fsm.places import AGENT_ENV_FILE, AGENT_GID, AGENT_HOME, AGENT_UID, WORKSPACE

IDLE: Final = """if command -v tini >/dev/null 2>&1; then exec tini -s -- sleep 2147483647; fi
trap 'exit 143' TERM
while :; do sleep 3600 & wait $!; done
"""
"""PID 1: an init that reaps, from the image if it has one; else a waiting shell, which reaps as well."""


class AgentContainer(Container):
    """Starts, observes and stops the agent."""

    ROLE = naming.ROLE_AGENT

    def __init__(self, sidecars: tuple[Container, ...]) -> None:
        self._sidecars = sidecars

    def plan(self, work: Work) -> AgentPlan:
        """Return the agent's part of the plan."""
        return work.plan.agent_plan

    def members(self, work: Work) -> dict[str, Member]:
        """Return the agent's own directories, so that any image has them; their parents are root's."""
        own = Member(None, 0o755, AGENT_UID, AGENT_GID)
        return {AGENT_HOME: own} | ({} if self.plan(work).bind else {WORKSPACE: own})

    def before_start(self, work: Work) -> None:
        """See that both sidecars run and are well now: the agent is never started by us without them."""
        for sidecar in self._sidecars:
            sidecar.check(work)

    def volumes(self, work: Work) -> dict[str, str]:
        """Return a labelled volume for each that the image declares: an anonymous one would stay behind."""
        image = work.steps.facts[image_fact(self.ROLE)]
        with work.engine.guarded("inspect the agent's image") as api:
            found: dict[str, Any] = api.inspect_image(image)  # type: ignore[no-untyped-call]  # the stub lacks types
        declared = sorted((found.get("Config") or {}).get("Volumes") or {})
        tmpfs = set(self.plan(work).tmpfs)
        return {
            naming.object_name(
                naming.ROLE_VOLUME, work.launch.slug, hashlib.sha256(path.encode()).hexdigest()[:8]
            ): path
            for path in declared
            if path.rstrip("/") not in tmpfs
        }

    def deliver(self, work: Work, container_id: str) -> None:
        """Bring the agent's secret variables to its tmpfs: a restart has emptied it."""
        door = DockerBottle(work.engine, container_id, name=self.plan(work).name)
        door.settle()
        lines, names = delivery.for_agent(work.plan, work.steps)
        with work.steps.act(f"deliver secrets to {self.ROLE}", cause="they live on tmpfs only", role=self.ROLE) as step:
            door.copy_in(lines, AGENT_ENV_FILE, mode=0o600)
            step.evidence("names", names)

    def stop(self, ground: Ground) -> None:
        """Remove it and its volumes."""
        super().stop(ground)
        if any(r.role == naming.ROLE_VOLUME for r in (*ground.look().ours, *ground.steps.resources())):
            ground.remove_role(naming.ROLE_VOLUME)
