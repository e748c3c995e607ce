"""A bottle's decisions for the command line: brought up to now if its sidecars can be asked, then read from the record.

Not its duty: what a decision holds (`traffic.lines`), and how it is kept (`traffic.record`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from bottle_fsm.cli.target import Target, launch_of, target
from bottle_fsm.errors import BottleError, UsageError
from bottle_fsm.model import Json
from bottle_fsm.naming import ROLE_INTERCEPTOR
from bottle_fsm.store.record import TORN_DOWN, BottleRecord
from bottle_fsm.traffic.collect import Sidecars, collect
from bottle_fsm.traffic.lines import GAP, read
from bottle_fsm.traffic.paths import Paths, paths_of

_DROPPED: Final = "dropped"


def record_of(directory: Path, record: BottleRecord) -> Paths:
    """Return where the decisions of a bottle's launch are kept.

    Raises:
        UsageError: it was never launched.
    """
    if not record.launch:
        raise UsageError("was never launched, so nothing was ever decided for it", place=record.bottle)
    return paths_of(directory, record.slug, record.launch)


class Collecting:
    """Collects a bottle's decisions, again and again, over one connection to its engine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._at: Target | None = None

    def now(self, record: BottleRecord) -> str:
        """Collect; say why that cannot be done now, or nothing.

        A bottle that is torn down, or was never planned, has no sidecars: the record has it all.
        """
        if record.state == TORN_DOWN or not record.plan_json:
            return ""
        try:
            if self._at is None:
                self._at = target(self._directory, record)
            launch = launch_of(record, self._at.launch.root)  # as it is by now: another owner may have repaired it
            problem = collected(self._directory, replace(self._at, launch=launch))
        except BottleError as error:
            problem = error.problem
        if problem:
            self._at = None
        return problem


def collected(directory: Path, at: Target) -> str:
    """Collect what the sidecars of a bottle decided; say why that failed, or nothing."""

    def read_log(role: str, since: float) -> bytes:
        return at.backend.logs(at.launch, role, None, since=since)

    return collect(Sidecars(directory, at.launch, read_log)).problem


def is_of(line: bytes, role: str | None) -> bool:
    """Say whether a line was written by a role; None is every role. A line that was damaged is nobody's."""
    source = read(line).get("source")
    return source is not None and role in {None, source}


def text_of(line: bytes) -> str:
    """Return a line as people read it."""
    value = read(line)
    event, source = value.get("event"), value.get("source", "")
    if event == GAP:
        return f"{value.get('time', '')}  … what the {source} wrote before this was lost before it could be collected"
    if event == _DROPPED:
        return f"{value.get('time', '')}  … {value.get('lines')} lines of the {source} had no room and are lost"
    words = [
        value.get("time", ""),
        f"{value.get('action', ''):<6}",
        "" if event == "decision" and source == ROLE_INTERCEPTOR else f"[{source} {event}]",
        value.get("method", ""),
        _target(value),
        value.get("rule", ""),
        value.get("reason", ""),
        ", ".join(map(str, value.get("findings", []))),
        f"{value.get('bytes', 0)} B",
        f"{value.get('ms', 0)} ms",
    ]
    return "  ".join(str(word) for word in words if word)


def _target(value: Json) -> str:
    host = value.get("host", "")
    return f"{host}:{value.get('port', 0)}{value.get('path', '')}" if host else ""
