"""Images that others made: is it here, can it be had, fetch it with progress.

Not its duty: images of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import of_stream
from bottle_fsm.errors import BackendError, EngineUnavailableError, ImageMissingError

REGISTRY_TIMEOUT = 15.0
PULL_TIMEOUT = 120.0
_SAY_EVERY = 3.0


def inspect(engine: Engine, ref: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image, None when it is not there."""
    try:
        with engine.guarded(f"inspect image {ref}") as api:
            return dict(api.inspect_image(ref))  # type: ignore[no-untyped-call]  # the stub says nothing of it
    except ImageMissingError:
        return None


def image_id(engine: Engine, ref: str) -> str | None:
    """Return the id of an image on the engine, None when it is not there."""
    found = inspect(engine, ref)
    return str(found["Id"]) if found else None


def registry_has(engine: Engine, ref: str) -> bool:
    """Tell whether the engine can reach the registry of an image and finds it there. Nothing is fetched."""
    try:
        with engine.guarded(f"look up {ref}", timeout=REGISTRY_TIMEOUT) as api:
            api.inspect_distribution(ref)  # type: ignore[no-untyped-call]  # the stub says nothing of it
    except EngineUnavailableError:
        raise
    except BackendError:
        return False
    return True


def pull(engine: Engine, ref: str, *, say: Callable[[str], None]) -> None:
    """Fetch an image.

    Raises:
        ImageMissingError: the registry does not have it, does not give it, or is out of reach.
    """
    progress = _Progress(ref, say)
    try:
        with engine.guarded(f"pull {ref}", timeout=PULL_TIMEOUT) as api:
            failure = ""
            # Read to the end in every case: a stream that is left open holds the image.
            for line in api.pull(ref, stream=True, decode=True):
                failure = failure or line.get("error", "")
                progress.note(line)
        if failure:
            raise of_stream(failure, step=f"pull {ref}")
    except EngineUnavailableError:
        raise
    except BackendError as error:
        raise ImageMissingError(
            f"the image {ref} is not on the engine and cannot be pulled: {error.problem}",
            place=error.place,
            hint="Check its name, `docker login`, and whether the engine reaches the registry; or load it yourself",
        ) from error


class _Progress:
    """Adds up the layers of one pull and says so now and then."""

    def __init__(self, ref: str, say: Callable[[str], None]) -> None:
        self._ref = ref
        self._say = say
        self._layers: dict[str, tuple[int, int]] = {}
        self._next = time.monotonic() + _SAY_EVERY

    def note(self, line: dict[str, Any]) -> None:
        """Take one line of the engine's progress."""
        detail = line.get("progressDetail") or {}
        if line.get("status") == "Downloading" and detail.get("total"):
            self._layers[line.get("id", "")] = (detail.get("current", 0), detail["total"])
        if self._layers and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SAY_EVERY
            done, total = (sum(parts) / 1e6 for parts in zip(*self._layers.values(), strict=True))
            self._say(f"pulling {self._ref}: {done:.0f} of {total:.0f} MB")
