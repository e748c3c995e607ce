"""The functions that `states/*.yaml` may name, and the one place where such a name becomes a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bottle_fsm import resources, yamlfile
from bottle_fsm.machine.definition import Definition, parse
from bottle_fsm.runner.compensate import compensate
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.steps import RunnerSteps

Effect = Callable[[Session, RunnerSteps], None]


def _validate(session: Session, steps: RunnerSteps) -> None:  # noqa: ARG001 - every effect has one signature
    session.backend.validate(session.spec)


def _plan(session: Session, steps: RunnerSteps) -> None:
    steps.evidence("plan", session.backend.resolve_plan(session.spec).to_json())


def _start_proxies(session: Session, steps: RunnerSteps) -> None:
    session.backend.start_proxies(session.plan, session.launch(), steps)


def _start_mitm(session: Session, steps: RunnerSteps) -> None:
    session.backend.start_mitm(session.plan, session.launch(), steps)


def _start_agent(session: Session, steps: RunnerSteps) -> None:
    session.backend.start_agent(session.plan, session.launch(), steps)


def _provision_ca(session: Session, steps: RunnerSteps) -> None:
    session.backend.provision_ca(session.plan, session.launch(), steps)


def _provision(session: Session, steps: RunnerSteps) -> None:
    session.backend.provision(session.plan, session.launch(), steps)


def _stop_agent(session: Session, steps: RunnerSteps) -> None:
    session.backend.stop_agent(session.launch(), steps)


def _stop_mitm(session: Session, steps: RunnerSteps) -> None:
    session.backend.stop_mitm(session.launch(), steps)


def _stop_proxies(session: Session, steps: RunnerSteps) -> None:
    session.backend.stop_proxies(session.launch(), steps)


COMPENSATIONS: Final[Mapping[str, Effect]] = {
    "stop_agent": _stop_agent,
    "stop_mitm": _stop_mitm,
    "stop_proxies": _stop_proxies,
}


def _compensate(session: Session, steps: RunnerSteps) -> None:
    compensate(session, steps, COMPENSATIONS)


EFFECTS: Final[Mapping[str, Effect]] = {
    "validate": _validate,
    "plan": _plan,
    "start_proxies": _start_proxies,
    "start_mitm": _start_mitm,
    "start_agent": _start_agent,
    "provision_ca": _provision_ca,
    "provision": _provision,
    "compensate": _compensate,
}

OBSERVATIONS: Final = frozenset({"observe"})
"""`observe` looks at the world through the backend, before and after the effect."""

NAMES: Final = frozenset(EFFECTS) | frozenset(COMPENSATIONS) | OBSERVATIONS


def load_definition() -> Definition:
    """Load the machine that ships with the package.

    Raises:
        DefinitionError: it is wrong.
    """
    path = resources.data_path("states") / "bottle.yaml"
    return parse(yamlfile.load(path).value, place=path.name, names=NAMES)
