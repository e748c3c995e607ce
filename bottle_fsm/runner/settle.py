"""What a dead process left open may still arrive: look, wait, look again, until two looks agree."""

from __future__ import annotations

import time
from typing import Final

from bottle_fsm.errors import DriftError
from bottle_fsm.failpoints import hit
from bottle_fsm.model import Observed
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.stop import Stop
from bottle_fsm.store import kinds

_LOOKS: Final = 20


def settle(session: Session, stop: Stop) -> None:
    """Return when no effect of an earlier attempt can still arrive; do nothing when none was left open.

    Raises:
        DriftError: the world kept changing.
    """
    record = session.record
    if not record.open_steps:
        return
    started = time.monotonic()
    before = _ids(session.observe())
    for _ in range(_LOOKS):
        stop.sleep(session.backend.settle)
        now = _ids(session.observe())
        hit("settle.looked")
        if now == before:
            session.commit(
                kinds.OBSERVED,
                cause=f"left open: {', '.join(record.open_steps)}",
                evidence={"settled": sorted(now), "waited": round(time.monotonic() - started, 3)},
            )
            return
        before = now
    raise DriftError("the bottle's objects keep changing", place=session.bottle, hint="Who else makes them?")


def _ids(observed: Observed) -> set[str]:
    return {f"{r.role} {r.id} {r.state}" for r in observed.ours}
