"""What the local backend's sidecars and the guard are made from: facts, looks and rows.

The looks are a few file names, so they stand beside the rows. Not its duty: making the environment (`local.venv`).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.doctor.bounded import bounded
from bottle_fsm.doctor.nearest import nearest_existing
from bottle_fsm.doctor.rows import GIB, Row, failed, gib, ok

AREA: Final = "sidecars"
GUARD: Final = "guard"
NEEDED: Final = GIB // 2
"""What the environment takes, and a little more."""


@dataclass(frozen=True, slots=True)
class SidecarFacts:
    """What was found out about the sidecars' Python environment.

    Attributes:
        path: where it is, or will be. ready: it is there, whole. problem: why its place is not known, or empty.
        uv: where the installer is, empty if it is missing. parent: the nearest directory above that exists.
        writable: the environment can be made there. free: bytes free there, None where that is not known.
    """

    path: str = ""
    ready: bool = False
    problem: str = ""
    uv: str = ""
    parent: str = ""
    writable: bool = True
    free: int | None = None


def look_at_sidecars(environ: Mapping[str, str], home: Path) -> SidecarFacts:
    """Return the facts; nothing is made."""
    from bottle_fsm.backend.local.places import data_directory  # noqa: PLC0415 - start-up budget
    from bottle_fsm.backend.local.venv import is_ready, venv_path  # noqa: PLC0415 - start-up budget

    data = data_directory(environ, home)
    where = bounded(lambda: (venv_path(data), is_ready(data)))
    if where.value is None:
        return SidecarFacts(path=str(data), problem=where.problem)
    path, ready = where.value
    place = nearest_existing(path)
    return SidecarFacts(
        path=str(path),
        ready=ready,
        uv=bounded(_uv).value or "",
        parent=str(place.path),
        writable=place.writable,
        free=place.free,
    )


def sidecar_rows(facts: SidecarFacts) -> Iterator[Row]:
    """Yield the rows; one that failed means that the local backend cannot run."""
    name = "environment"
    if facts.problem:
        remedy = "Install bottle-fsm again: pip install --force-reinstall bottle-fsm"
        yield failed(AREA, name, f"cannot be looked for: {facts.problem}", remedy)
    elif facts.ready:
        yield ok(AREA, name, f"{facts.path} is ready")
    elif not facts.writable:
        remedy = "Set XDG_DATA_HOME to a directory that you can write to"
        yield failed(AREA, name, f"{facts.path} is not there, and {facts.parent} cannot be written", remedy)
    elif not facts.uv:
        yield failed(AREA, name, f"{facts.path} is not there, and uv, which makes it, is missing", "`pip install uv`")
    elif facts.free is not None and facts.free < NEEDED:
        remedy = f"Free {gib(NEEDED)} there, or set XDG_DATA_HOME elsewhere"
        yield failed(AREA, name, f"{facts.path} is not there, and {gib(facts.free)} is free for it", remedy)
    else:
        found = f"{facts.path} will be made at the first launch (about a minute; from PyPI or your PIP_INDEX_URL)"
        yield ok(AREA, name, found)


def guard_rows(pipelock_images: Mapping[str, bool]) -> Iterator[Row]:
    """Yield the rows about guards; `pipelock_images` says of each image of the engine whether it is there."""
    yield ok(GUARD, "builtin", "always there; the local backend's only guard")
    if not pipelock_images:
        yield ok(GUARD, "pipelock", "not looked for: it needs an engine; without one builtin is the guard")
    for image, there in pipelock_images.items():
        later = f"can be fetched by `docker pull {image}`: `guard: auto` tries that, else takes builtin"
        yield ok(GUARD, "pipelock", f"{image} {'is on the engine: `guard: auto` takes it' if there else later}")


def _uv() -> str:
    if importlib.util.find_spec("uv") is None:
        return ""
    import uv  # noqa: PLC0415 - start-up budget

    found = uv.find_uv_bin()
    return found if os.access(found, os.X_OK) else ""
