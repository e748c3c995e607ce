"""Brings out what a launch's sidecars decided: before one of them goes, and when a running bottle is looked at.

It fails nothing and takes a bounded time; what went wrong is said to the person and to the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.model import Json
from bottle_fsm.runner.session import Session
from bottle_fsm.traffic.collect import SECONDS, Sidecars, collect
from bottle_fsm.traffic.lines import SOURCES

EVIDENCE: Final = "decisions"
"""In the evidence of a sub-step that takes a sidecar away: how many lines were new, or why they could not be had."""


def bring_out(  # noqa: PLR0913 - what is brought out, from where, and how
    session: Session,
    backend: BottleBackend,
    launch: str = "",
    *,
    roles: Sequence[str] = SOURCES,
    whole: bool = False,
    seconds: float = SECONDS,
) -> Json:
    """Collect what the sidecars of a launch decided, and say how that went: `lines`, and `problem` if there was one.

    Args:
        session: the bottle's owner.
        backend: where the sidecars are.
        launch: whose they are; empty for the bottle's own launch.
        roles: which of them.
        whole: this is the last time.
        seconds: how long it may take.
    """
    own = session.launch()
    of = replace(own, launch=launch, facts={}, recorded=()) if launch not in {"", own.launch} else own

    def read(role: str, since: float) -> bytes:
        return backend.logs(of, role, None, since=since)

    ended = collect(Sidecars(session.runtime.root.path, of, read, roles, whole), seconds=seconds)
    if not ended.problem:
        return {"lines": ended.lines}
    text = f"what the {' and the '.join(roles)} decided could not be collected: {ended.problem}"
    session.runtime.people.progress(session.bottle, text)
    return {"lines": ended.lines, "problem": ended.problem}
