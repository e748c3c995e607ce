"""Where a launch's record lies. Imports nothing heavy: `status` reads the cursor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.errors import BackendError

FOLDER: Final = "egress"
"""Below the state root: a directory for each bottle, files for each launch."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one launch's record."""

    folder: Path
    launch: str

    @property
    def newest(self) -> Path:
        """The file that is appended to."""
        return self.folder / f"{self.launch}.jsonl"

    @property
    def older(self) -> Path:
        """The full one before it."""
        return self.folder / f"{self.launch}.jsonl.1"

    @property
    def cursor(self) -> Path:
        """What is known of both without reading them."""
        return self.folder / f"{self.launch}.json"


def paths_of(state_dir: Path, slug: str, launch: str) -> Paths:
    """Return where a launch's record lies.

    Raises:
        BackendError: slug or launch are none of ours: they come from labels.
    """
    if not _NAME.fullmatch(slug) or not _NAME.fullmatch(launch):
        raise BackendError("has no name that a file can have", place=launch)
    return Paths(state_dir / FOLDER / slug, launch)
