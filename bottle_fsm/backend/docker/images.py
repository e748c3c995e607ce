"""The images that bottles run from: ours, built once per content, and the user's, pulled when missing.

Not its duty: containers. An image of ours is named by a digest of all that it is made from; that name being on the
engine is the whole check.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.docker.build import ImageName, Surroundings, build, build_lock, recipe, upstream
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.pull import inspect, pull, registry_has
from bottle_fsm.errors import ImageMissingError

IMAGE_NAMES: Final[tuple[ImageName, ...]] = ("agent", "sidecar")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image on the engine.

    Attributes:
        tag: the reference by which it was found, or made.
        id: the engine's id, the only handle that containers are made from.
        built: whether it was built or pulled just now.
        digest: `sha256:…` of an upstream image in its registry, empty for one that has none.
    """

    tag: str
    id: str
    built: bool
    digest: str = ""


def image_tag(name: ImageName, *, arch: str) -> str:
    """Return the content-digest tag of an image of ours for an architecture."""
    return recipe(name).tag(arch)


def ensure_image(
    engine: Engine,
    name: ImageName,
    *,
    say: Callable[[str], None],
    data_dir: Path,
    environ: Mapping[str, str] | None = None,
) -> ImageRef:
    """Return an image of ours, built if its content-digest tag is not on the engine; `latest` points to it afterwards.

    Args:
        engine: where it must be.
        name: which image.
        say: told what is going on, a line at a time.
        data_dir: keeps fetched artefacts and the build lock.
        environ: the launcher's environment (proxies, mirrors, CAs); the process's own by default.

    Raises:
        ImageMissingError: there is nothing to build it from.
        BackendError: the build failed; the message holds its last lines.
    """
    what = recipe(name)
    tag = what.tag(engine.arch)
    found = _found(engine, name, tag)
    if found:
        return found
    with build_lock(data_dir, name, say):
        found = _found(engine, name, tag)  # another launcher may have built it while we waited
        if found:
            return found
        build(engine, what, tag, around=Surroundings(say, os.environ if environ is None else environ, data_dir))
        found = _found(engine, name, tag)
    if not found:
        raise ImageMissingError(
            f"{tag} was built and is not on the engine", place=tag, hint="Is somebody removing images?"
        )
    return ImageRef(tag, found.id, built=True)


def ensure_present(engine: Engine, ref: str, *, say: Callable[[str], None], digest: str = "") -> ImageRef:
    """Return a user's or upstream image, pulled if it is not on the engine.

    Args:
        engine: where it must be.
        ref: its reference.
        say: told about the pull.
        digest: the registry digest that was recorded at the first pull; when given, it counts and the tag does not.

    Raises:
        ImageMissingError: it is neither here nor to be had.
    """
    wanted = f"{_repository(ref)}@{digest}" if digest else ref
    found = inspect(engine, wanted)
    pulled = found is None
    if found is None:
        say(f"pulling {wanted}")
        pull(engine, wanted, say=say)
        found = inspect(engine, wanted)
    if found is None:
        raise ImageMissingError(
            f"{wanted} was pulled and is not on the engine", place=wanted, hint="Is somebody removing images?"
        )
    return ImageRef(ref, str(found["Id"]), built=pulled, digest=digest or next(iter(_registry_digests(found)), ""))


def pipelock_available(engine: Engine) -> str | None:
    """Return the reference of the pipelock image if it is on the engine or can be pulled now, else None."""
    ref = upstream("pipelock")
    return ref if inspect(engine, ref) or registry_has(engine, ref) else None


def _found(engine: Engine, name: ImageName, tag: str) -> ImageRef | None:
    """Look for our image by its tag: one call, unless `latest` has to be moved to it."""
    image = inspect(engine, tag)
    if image is None:
        return None
    if f"bottle-{name}:latest" not in (image.get("RepoTags") or []):
        with engine.guarded(f"tag {tag}") as api:
            api.tag(image["Id"], f"bottle-{name}", "latest")
    return ImageRef(tag, str(image["Id"]), built=False)


def _registry_digests(image: dict[str, Any]) -> list[str]:
    return [entry.partition("@")[2] for entry in image.get("RepoDigests") or []]


def _repository(ref: str) -> str:
    """Return a reference without its tag; the port of a registry is no tag."""
    return re.sub(r":[^:/]+$", "", ref.partition("@")[0])
