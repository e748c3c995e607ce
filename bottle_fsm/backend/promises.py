"""Is a running bottle still as promised? What only a look inside shows, the same on every backend that opens TLS.

Looks only. Not its duty: objects that are missing or stopped, and how a backend reaches inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bottle_fsm.backend.trust import FACT_CA
from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import BackendError
from bottle_fsm.model import Launch
from bottle_fsm.places import AGENT_ENV_FILE
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.plan.build import launch_policy
from bottle_fsm.provision import ca


def broken(
    plan: BottlePlan, launch: Launch, agent: Bottle, *, health: Mapping[str, str], certificate: Callable[[], bytes]
) -> str:
    """Say what differs, in plain words; empty when all is as promised.

    Args:
        plan: what was promised.
        launch: what was recorded.
        agent: the handle into the agent.
        health: the interceptor's own answer, empty when it gives none.
        certificate: reads the interceptor's certificate (PEM); its `BackendError` becomes a finding.
    """
    wrong = [*_sidecars(plan, launch, health), *_trust(launch, agent, certificate), *_secrets(agent)]
    return "; ".join(wrong)


def _sidecars(plan: BottlePlan, launch: Launch, health: Mapping[str, str]) -> list[str]:
    """Compare what the interceptor says of itself: its policy, its secrets, its way to the guard."""
    policy = launch_policy(plan.policy, bottle=plan.bottle, launch=launch.launch).digest()
    wrong = []
    if health.get("status") != "ok":
        wrong.append(f"the interceptor says {health.get('status', 'nothing')}")
    if health.get("policy") != policy:
        wrong.append("the interceptor has another policy")
    if health.get("guard") != "ok":
        wrong.append("the interceptor does not reach the guard")
    return wrong


def _trust(launch: Launch, agent: Bottle, certificate: Callable[[], bytes]) -> list[str]:
    """Compare the CA in three places: recorded, in the interceptor, in the agent's stores."""
    try:
        pem = certificate()
        if ca.fingerprint(pem) != launch.facts.get(FACT_CA):
            return ["the interceptor's CA is not the recorded one"]
        ca.verify(agent, pem)
    except BackendError as error:
        return [f"trust: {error}"]
    return []


def _secrets(agent: Bottle) -> list[str]:
    if agent.exec(["test", "-r", AGENT_ENV_FILE]).code == 0:
        return []
    return ["the agent's secrets are not delivered"]
