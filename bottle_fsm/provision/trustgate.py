"""The trust gate: a verified TLS request through the interceptor with every tool present."""

from __future__ import annotations

from bottle_fsm.bottle import Bottle
from bottle_fsm.model import Json
from bottle_fsm.steps import Steps


def run_gate(bottle: Bottle, *, steps: Steps, expect_launch: str) -> list[Json]:
    """Prove trust with every tool that is present; return the matrix."""
    raise NotImplementedError
