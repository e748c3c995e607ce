"""The egress self-test, from inside the bottle."""

from __future__ import annotations

from collections.abc import Mapping

from bottle_fsm.bottle import Bottle
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.steps import Steps


def run_selftest(bottle: Bottle, plan: BottlePlan, probes: Mapping[str, str], steps: Steps) -> None:
    """Test from inside that the allowed is allowed and everything else fails."""
    raise NotImplementedError
