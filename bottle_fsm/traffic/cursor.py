"""What is known of a launch's record without reading it: how far it goes, what it counts, where to go on collecting.

One small JSON file beside the record, replaced whole. It can be lost or old: the record itself is the truth, and what
stands in it beyond `size` was appended by a collector that was killed. Imports nothing heavy: `status` reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bottle_fsm.errors import BackendError
from bottle_fsm.model import Json
from bottle_fsm.traffic.paths import paths_of

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests by what became of them, as collected; `as_of` is when that was, empty for never."""

    allow: int = 0
    deny: int = 0
    error: int = 0
    as_of: str = ""

    def plus(self, action: str) -> Counts:
        """Return the counts with one more request."""
        return replace(self, **{action: getattr(self, action) + 1}) if action else self

    def to_json(self) -> Json:
        """Return the counts as `status --json` prints them."""
        return {"allow": self.allow, "deny": self.deny, "error": self.error, "as_of": self.as_of}


@dataclass(frozen=True, slots=True)
class Cursor:
    """The state of one launch's record.

    Attributes:
        size, inode: of the newest file, as far as it is accounted for; 0 while there is none.
        lines: in the newest file. older: in the one before. gone: in files that had to go.
        counts: see `Counts`. windows: role → JSON of where its log was left (`resume.Window`).
    """

    size: int = 0
    inode: int = 0
    lines: int = 0
    older: int = 0
    gone: int = 0
    counts: Counts = Counts()
    windows: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the cursor as a JSON object."""
        numbers = {name: getattr(self, name) for name in ("size", "inode", "lines", "older", "gone")}
        return {"version": VERSION, **numbers, "counts": self.counts.to_json(), "windows": self.windows}

    @classmethod
    def from_json(cls, value: Json) -> Cursor:
        """Read a cursor back.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if value["version"] != VERSION:
            raise ValueError("another version")
        counts = value["counts"]
        return cls(
            **{name: _number(value[name]) for name in ("size", "inode", "lines", "older", "gone")},
            counts=Counts(
                allow=_number(counts["allow"]),
                deny=_number(counts["deny"]),
                error=_number(counts["error"]),
                as_of=str(counts["as_of"]),
            ),
            windows={str(role): dict(window) for role, window in value["windows"].items()},
        )


def load(path: Path) -> Cursor:
    """Return the cursor of a file; a fresh one when there is none that can be read."""
    try:
        return Cursor.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Cursor()


def save(path: Path, cursor: Cursor) -> None:
    """Replace the file whole.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(cursor.to_json()).encode())
    part.rename(path)


def counts_of(state_dir: Path, slug: str, launch: str) -> Counts:
    """Return what was counted of a launch, from the cursor alone; zeros when nothing was ever collected."""
    try:
        return load(paths_of(state_dir, slug, launch).cursor).counts
    except BackendError:  # never planned: it has no slug
        return Counts()


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a count")
    return value
