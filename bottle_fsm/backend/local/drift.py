"""What only a look inside running sandboxes shows: are they still as promised.

Looks only. Not its duty: objects that are missing; `plan.diff` finds those.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.local import health
from bottle_fsm.backend.local.hands import handle, health_socket
from bottle_fsm.backend.local.look import one
from bottle_fsm.backend.local.plan import FACT_CA, LocalBottlePlan
from bottle_fsm.backend.local.world import LocalObject, LocalWorld
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.model import Launch
from bottle_fsm.places import AGENT_ENV_FILE
from bottle_fsm.plan.build import launch_policy
from bottle_fsm.provision import ca

_CERTIFICATE_BYTES: Final = 1 << 16


def find_drift(world: LocalWorld, plan: LocalBottlePlan, launch: Launch) -> str:
    """Say what differs, in plain words; empty when all is as promised."""
    interceptor, agent = (one(world, launch, role) for role in (naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT))
    if interceptor is None or agent is None:
        return "a sandbox is gone"
    stopped = [found.name for found in (interceptor, agent) if found.state != "running"]
    if stopped:
        return f"not running: {', '.join(stopped)}"
    wrong = [
        *_health_drift(world, plan, launch),
        *_trust_drift(launch, interceptor, agent),
        *_secret_drift(plan, agent),
    ]
    return "; ".join(wrong)


def certificate(interceptor: LocalObject) -> bytes:
    """Return the CA's certificate by its exact path on this host; the key beside it is never read.

    Raises:
        DriftError: there is none.
    """
    path = interceptor.directory / "state" / Path(egress_files.CA_CERT).name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_CERTIFICATE_BYTES)
    except OSError as error:
        raise DriftError(f"has no certificate of its CA: {error}", place=interceptor.name) from error


def _health_drift(world: LocalWorld, plan: LocalBottlePlan, launch: Launch) -> list[str]:
    """Compare what the interceptor says of itself: its policy, its secrets, its way to the guard."""
    answer = health.ask(health_socket(world, plan.slug, naming.ROLE_INTERCEPTOR))
    policy = launch_policy(plan.policy, bottle=plan.bottle, launch=launch.launch).digest()
    wrong = []
    if answer.get("status") != "ok":
        wrong.append(f"the interceptor says {answer.get('status', 'nothing')}")
    if answer.get("policy") != policy:
        wrong.append("the interceptor has another policy")
    if answer.get("guard") != "ok":
        wrong.append("the interceptor does not reach the guard")
    return wrong


def _trust_drift(launch: Launch, interceptor: LocalObject, agent: LocalObject) -> list[str]:
    """Compare the CA in three places: recorded, in the interceptor, in the agent's stores."""
    try:
        pem = certificate(interceptor)
        if ca.fingerprint(pem) != launch.facts.get(FACT_CA):
            return ["the interceptor's CA is not the recorded one"]
        ca.verify(handle(agent), pem)
    except BackendError as error:
        return [f"trust: {error}"]
    return []


def _secret_drift(plan: LocalBottlePlan, agent: LocalObject) -> list[str]:
    if not plan.secrets:
        return []
    result = handle(agent).exec(["test", "-r", AGENT_ENV_FILE])
    return [] if result.code == 0 else ["the agent's secrets are not delivered"]
