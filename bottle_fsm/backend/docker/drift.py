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
from bottle_fsm.backend.docker.plan import FACT_CA, DockerBottlePlan
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError
from bottle_fsm.model import Launch, Resource
from bottle_fsm.places import AGENT_ENV_FILE
from bottle_fsm.plan.build import launch_policy
from bottle_fsm.provision import ca
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
    wrong = [
        *_health_drift(engine, plan, launch, interceptor),
        *_trust_drift(engine, launch, interceptor, agent),
        *_secret_drift(engine, plan, agent),
    ]
    return "; ".join(wrong)


def unsaved_work(engine: Engine, agent: Resource) -> str:
    """Say in a few words what the agent changed in its workspace; empty when it changed nothing."""
    if agent.state != "running":
        return STOPPED
    return workspace_changes(DockerBottle(engine, agent.id, name=agent.name))


def _health_drift(engine: Engine, plan: DockerBottlePlan, launch: Launch, interceptor: Resource) -> list[str]:
    """Compare what the interceptor says of itself: its policy, its secrets, its way to the guard."""
    answer = health_of(engine, plan, interceptor.id)
    policy = launch_policy(plan.policy, bottle=plan.bottle, launch=launch.launch).digest()
    wrong = []
    if answer.get("status") != "ok":
        wrong.append(f"the interceptor says {answer.get('status', 'nothing')}")
    if answer.get("policy") != policy:
        wrong.append("the interceptor has another policy")
    if answer.get("guard") != "ok":
        wrong.append("the interceptor does not reach the guard")
    return wrong


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


def _trust_drift(engine: Engine, launch: Launch, interceptor: Resource, agent: Resource) -> list[str]:
    """Compare the CA in three places: recorded, in the interceptor, in the agent's stores."""
    try:
        pem = read_members(engine, interceptor.id, egress_files.CA_CERT, name=interceptor.name)[egress_files.CA_CERT]
        if ca.fingerprint(pem) != launch.facts.get(FACT_CA):
            return ["the interceptor's CA is not the recorded one"]
        ca.verify(DockerBottle(engine, agent.id, name=agent.name), pem)
    except (BackendError, KeyError) as error:
        return [f"trust: {error}"]
    return []


def _secret_drift(engine: Engine, plan: DockerBottlePlan, agent: Resource) -> list[str]:
    if not plan.secrets:
        return []
    result = DockerBottle(engine, agent.id, name=agent.name).exec(["test", "-r", AGENT_ENV_FILE])
    return [] if result.code == 0 else ["the agent's secrets are not delivered"]
