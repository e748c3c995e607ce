"""The one poller: waits until a container is ready, and notices at once when it ended instead.

Not its duty: what ready means; a container's plan has a command for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.errors import BackendError, SidecarExitedError, StepTimeoutError
from bottle_fsm.steps import Steps

INTERVAL: Final = 0.1
LAST_LINES: Final = 15
_DEAD: Final = {"exited", "dead", "removing"}


def wait_ready(engine: Engine, container_id: str, *, name: str, ready: Callable[[], bool], steps: Steps) -> None:
    """Wait until `ready` says yes.

    Raises:
        SidecarExitedError: the container ended; with its exit code and last lines.
        StepTimeoutError: the attempt's time is over; with its last lines.
    """
    while True:
        check_running(engine, container_id, name=name)
        try:
            if ready():
                return
        except BackendError:
            check_running(engine, container_id, name=name)  # the better reason, if it ended under our hands
            raise
        if steps.remaining() <= INTERVAL:
            raise StepTimeoutError(
                f"did not become ready in time; its last lines: {last_lines(engine, container_id)}", place=name
            )
        steps.sleep(INTERVAL)


def check_running(engine: Engine, container_id: str, *, name: str) -> None:
    """See that a container runs.

    Raises:
        SidecarExitedError: it ended; with its exit code and last lines.
    """
    with engine.guarded(f"inspect {name}") as api:
        state: dict[str, Any] = api.inspect_container(container_id)["State"]
    if state.get("Status") in _DEAD:
        reason = " (out of memory)" if state.get("OOMKilled") else ""
        error = f": {state['Error']}" if state.get("Error") else ""
        raise SidecarExitedError(
            f"ended with exit code {state.get('ExitCode')}{reason}{error}; "
            f"its last lines: {last_lines(engine, container_id)}",
            place=name,
        )


def last_lines(engine: Engine, container_id: str, *, lines: int = LAST_LINES) -> str:
    """Return what a container wrote last, in one text; `(none)` when it wrote nothing."""
    text = read_logs(engine, container_id, tail=lines).decode(errors="replace").strip()
    return text or "(none)"


def read_logs(engine: Engine, container_id: str, *, tail: int | None, since: float = 0.0) -> bytes:
    """Return a container's standard output and error: the last lines, or all, as far as written since a time."""
    from_then = int(since) or None
    with engine.guarded("read logs") as api:
        return bytes(api.logs(container_id, tail="all" if tail is None else tail, since=from_then))
