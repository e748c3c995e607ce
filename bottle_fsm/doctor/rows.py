"""Row: one thing that was looked at, what was found, and what to do about it. Pure.

Not its duty: how a row is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from bottle_fsm.model import Json

GIB: Final = 1 << 30


class Level(StrEnum):
    """How good a finding is; the values stand in `--json`."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One finding.

    Attributes:
        area: `engine`, `sandbox`, `sidecars`, `guard`, `state` or `backends`. name: what was looked at.
        level: `FAILED` where something that bottles need is missing, `WARNING` where they run without it.
        found: what is there, in a few words. remedy: exactly what to do, perhaps several lines; empty when all is well.
    """

    area: str
    name: str
    level: Level
    found: str
    remedy: str = ""

    def to_json(self) -> Json:
        """Return the row as `--json` prints it."""
        return {"type": "check", **asdict(self), "level": self.level.value}


def ok(area: str, name: str, found: str) -> Row:
    """Return a row of something that is as it should be."""
    return Row(area, name, Level.OK, found)


def warning(area: str, name: str, found: str, remedy: str) -> Row:
    """Return a row of something that bottles can do without."""
    return Row(area, name, Level.WARNING, found, remedy)


def failed(area: str, name: str, found: str, remedy: str) -> Row:
    """Return a row of something that bottles need and that is not there."""
    return Row(area, name, Level.FAILED, found, remedy)


def has_failed(rows: Iterable[Row]) -> bool:
    """Tell whether something is missing that bottles need."""
    return any(row.level is Level.FAILED for row in rows)


def gib(size: int) -> str:
    """Return a number of bytes in GiB, for people."""
    return f"{size / GIB:.1f} GiB"
