"""Which backend: by name, or `auto`. Backends are imported when they are chosen, not before."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.errors import BottleError, EngineUnavailableError, UsageError
from bottle_fsm.model import Host, Json

NAMES: Final = ("docker", "local", "fake")


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen backend's name, and why that one, for people and plan."""

    name: str
    reason: str


def choose(name: str, host: Host) -> Choice:
    """Settle a manifest's `backend:` value.

    Raises:
        EngineUnavailableError: `auto`, and no engine answers.
        UsageError: there is no such backend.
    """
    if name != "auto":
        if name not in NAMES:
            raise UsageError(f"there is no backend {name!r}", hint=f"Known: auto, {', '.join(NAMES)}.")
        return Choice(name, "asked for")
    from bottle_fsm.backend.docker.client import connect  # noqa: PLC0415 - start-up budget: only when looked for

    try:
        engine = connect(host.environ)
    except BottleError as error:
        return _without_engine(host, error.problem)
    return Choice("docker", f"an engine answers at {engine.url}")


def _without_engine(host: Host, problem: str) -> Choice:
    from bottle_fsm.backend.local.fitness import check_machine  # noqa: PLC0415 - start-up budget

    try:
        check_machine(platform=sys.platform, environ=host.environ)
    except BottleError as unfit:
        raise EngineUnavailableError(
            f"backend auto: no container engine answers ({problem}), and no sandbox can run here ({unfit.problem})",
            hint=f"Start an engine (`make engine`, then set DOCKER_HOST as it says), or for a sandbox: {unfit.hint}",
        ) from unfit
    return Choice("local", f"no container engine answers ({problem}); bubblewrap can run here")


def make_backend(name: str, host: Host, endpoint: Json) -> BottleBackend:
    """Make a backend; `endpoint` is the recorded engine that it must talk to, empty for today's.

    Raises:
        UsageError: there is no such backend.
        EngineUnavailableError: its engine does not answer.
    """
    if name == "fake":
        from bottle_fsm.backend.fake.backend import FakeBackend  # noqa: PLC0415 - start-up budget

        return FakeBackend(host)
    if name == "local":
        from bottle_fsm.backend.local.backend import LocalBackend  # noqa: PLC0415 - start-up budget

        return LocalBackend(host)
    if name == "docker":
        from bottle_fsm.backend.docker.backend import DockerBackend  # noqa: PLC0415 - start-up budget

        return DockerBackend(host, endpoint)
    raise UsageError(f"there is no backend {name!r}", hint=f"Known: {', '.join(NAMES)}.")
