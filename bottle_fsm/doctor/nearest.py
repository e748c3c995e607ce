"""The nearest directory above a path that exists: can something be made there, and how much room is there?"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A path that exists; free: bytes free there for this user, None where that is not known."""

    path: Path
    writable: bool
    free: int | None


def nearest_existing(path: Path) -> Place:
    """Return the path itself if it exists, else the nearest one above it."""
    for place in (path, *path.parents):
        if os.path.lexists(place):
            return Place(place, place.is_dir() and os.access(place, os.W_OK | os.X_OK), free_bytes(place))
    return Place(path, writable=False, free=None)


def free_bytes(path: Path) -> int | None:
    """Return the bytes that this user may still write there."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
