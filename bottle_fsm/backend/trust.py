"""Trust in a bottle's CA, for every backend that opens TLS: recorded, installed, proved, doubted after a repair.

Not its duty: where a backend keeps the certificate, and what is run inside (`provision`).
"""

from __future__ import annotations

from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.naming import ROLE_AGENT, ROLE_INTERCEPTOR
from bottle_fsm.provision import ca
from bottle_fsm.provision.trustgate import run_gate
from bottle_fsm.steps import Steps

FACT_CA: Final = "ca_sha256"
FACT_TRUSTED: Final = "gate.passed"
"""Which CA the gate proved in which agent. Once it is there, every sidecar of the launch has done its duty once."""


def record_ca(pem: bytes, steps: Steps) -> None:
    """Record the fingerprint of the interceptor's CA, if it is new."""
    found, recorded = ca.fingerprint(pem), steps.facts.get(FACT_CA)
    if found == recorded:
        return
    cause = "made by this interceptor" if recorded is None else f"another one than the recorded {recorded[:16]}"
    with steps.act("note the CA", cause=cause, role=ROLE_INTERCEPTOR) as step:
        step.fact(FACT_CA, found)


def establish(  # noqa: PLR0913 - who trusts what, proved to whom
    bottle: Bottle, pem: bytes, steps: Steps, *, agent: str, launch: str, chosen: bool = True
) -> None:
    """Make an agent trust a CA, and prove it by requests from inside, unless that was proved since its last start.

    Args:
        bottle: the handle into the agent.
        pem: the interceptor's certificate.
        steps: the runner's end.
        agent: what tells this agent, as it runs now, from every other.
        launch: whose gate has to answer.
        chosen: see `run_gate`.

    Raises:
        ProvisionError: a store does not hold the certificate. GateError: a tool does not trust it.
    """
    proof = f"{ca.trust(bottle, pem, steps)} {agent}"
    if steps.facts.get(FACT_TRUSTED) == proof:
        return
    run_gate(bottle, steps=steps, expect_launch=launch, chosen=chosen)
    with steps.act("trust proved", cause="the gate passed", role=ROLE_AGENT) as step:
        step.fact(FACT_TRUSTED, proof)


def doubt(steps: Steps) -> None:
    """Forget what the gate proved: the way up is walked again, and every gate of it is passed again."""
    if steps.facts.get(FACT_TRUSTED):
        with steps.act("doubt trust", cause="the agent was looked at anew", role=ROLE_AGENT) as step:
            step.fact(FACT_TRUSTED, "")
