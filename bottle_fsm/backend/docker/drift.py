"""What only a look inside a running bottle shows: is it still as promised, and what would be lost with it.

Looks only. Not its duty: objects that are missing; `plan.diff` finds those.
"""

from __future__ import annotations

import json

from bottle_fsm import naming
from bottle_fsm.backend.docker.archive_files import read_members
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.observe import observe
from bottle_fsm.backend.docker.plan import DockerBottlePlan
from bottle_fsm.backend.promises import broken
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.provision.unsaved import STOPPED, workspace_changes
from bottle_fsm.transfer import Call


def find_drift(engine: Engine, plan: DockerBottlePlan, launch: Launch) -> str:
    """Say what differs, in plain words; empty when all is as promised."""
    observed = observe(engine, launch)
    roles = (naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
    found = {role: next(iter(observed.of_role(role)), None) for role in roles}
    interceptor, agent = found[naming.ROLE_INTERCEPTOR], found[naming.ROLE_AGENT]
    if interceptor is None or agent is None:
        return "a container is gone"
    stopped = [r.name for r in (interceptor, agent) if r.state != "running"]
    if stopped:
        return f"not running: {', '.join(stopped)}"

    def certificate() -> bytes:
        path = egress_files.CA_CERT
        found = read_members(engine, interceptor.id, path, name=interceptor.name)
        if path not in found:
            raise DriftError("has no certificate of its CA", place=interceptor.name)
        return found[path]

    return broken(
        plan,
        launch,
        DockerBottle(engine, agent.id, name=agent.name),
        health=health_of(engine, plan, interceptor.id),
        certificate=certificate,
    )


def unsaved_work(engine: Engine, agent: Resource) -> str:
    """Say in a few words what the agent changed in its workspace; empty when it changed nothing."""
    if agent.state != "running":
        return STOPPED
    return workspace_changes(DockerBottle(engine, agent.id, name=agent.name))


def health_of(engine: Engine, plan: DockerBottlePlan, container_id: str) -> dict[str, str]:
    """Return the interceptor's own health answer; empty when it gives none."""
    interceptor = plan.mitmproxy_plan
    door = DockerBottle(engine, container_id, name=interceptor.name, users={"agent": interceptor.user, "root": "0:0"})
    try:
        result = door.run(Call(argv=interceptor.health, user="agent", seconds=10.0, mark=""))
        value = json.loads(result.stdout)
    except (BackendError, TimeoutError, ValueError):
        return {}
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}
