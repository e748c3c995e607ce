"""The images that bottles run from: ours, built once per content, and the user's, pulled when missing.

Not its duty: containers. An image of ours is named by a digest of all that it is made from; that name being on the
engine is the whole check.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bottle_fsm.backend.docker.artefacts import fetch_npm, install_python
from bottle_fsm.backend.docker.baseimage import LABEL_IMAGE, Base, ensure_base
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.context import ContextWriter, digest_of, files_below
from bottle_fsm.backend.docker.errors import of_stream
from bottle_fsm.backend.docker.pull import inspect, pull, registry_has
from bottle_fsm.errors import BackendError, ImageMissingError
from bottle_fsm.resources import PACKAGE, data_path

ImageName = Literal["agent", "sidecar"]
IMAGE_NAMES: Final[tuple[ImageName, ...]] = ("agent", "sidecar")
LABEL_BASE: Final = "bottle-fsm.image-base"
BUILD_TIMEOUT: Final = 900.0
_SIDECAR_MODULES: Final = ("__init__.py", "places.py")
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


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


def upstream(name: str) -> str:
    """Return an entry of the one file that names upstream images: `base`, `suite`, `pipelock`."""
    return str(json.loads((data_path("images") / "upstream.json").read_text(encoding="utf-8"))[name])


def image_tag(name: ImageName, *, arch: str) -> str:
    """Return the content-digest tag of an image of ours: the same content, base and architecture give the same tag."""
    digest = digest_of(_sources(name), upstream("base"), upstream("suite"), arch)
    return f"bottle-{name}:{digest[:16]}"


def ensure_image(
    engine: Engine,
    name: ImageName,
    *,
    say: Callable[[str], None],
    data_dir: Path,
    environ: Mapping[str, str] | None = None,
) -> ImageRef:
    """Return an image of ours, built if its content-digest tag is not on the engine.

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
    tag = image_tag(name, arch=engine.arch)
    found = _found(engine, name, tag)
    if found:
        return found
    with _build_lock(data_dir, name, say):
        found = _found(engine, name, tag)  # another launcher may have built it while we waited
        if found:
            return found
        _build(engine, name, tag, say=say, environ=os.environ if environ is None else environ, data_dir=data_dir)
        found = _found(engine, name, tag)
    if not found:
        raise ImageMissingError(f"{tag} was built and is not on the engine", place=tag, hint="Is somebody removing images?")
    return ImageRef(tag, found.id, built=True)


def ensure_present(engine: Engine, ref: str, *, say: Callable[[str], None], digest: str = "") -> ImageRef:
    """Return a user's or upstream image, pulled if it is not on the engine.

    Args:
        engine: where it must be.
        ref: its reference.
        say: told about the pull.
        digest: the registry digest that was recorded at the first pull; when given, no other one is accepted.

    Raises:
        ImageMissingError: it is neither here nor to be had, or what is here has another digest.
    """
    found = inspect(engine, ref)
    pulled = found is None
    if found is None:
        say(f"pulling {ref}")
        wanted = f"{_repository(ref)}@{digest}" if digest else ref
        pull(engine, wanted, say=say)
        found = inspect(engine, wanted)
    if found is None:
        raise ImageMissingError(f"{ref} was pulled and is not on the engine", place=ref)
    actual = _registry_digests(found)
    if digest and digest not in actual:
        raise ImageMissingError(
            f"{ref} on the engine is not the recorded {digest}", place=ref, hint=f"Pull it again: docker pull {_repository(ref)}@{digest}"
        )
    return ImageRef(ref, str(found["Id"]), built=pulled, digest=digest or next(iter(actual), ""))


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


def _sources(name: ImageName) -> dict[str, Path]:
    """Return the files that an image is made from, by their name in the build context."""
    sources = dict(files_below(data_path("images") / name))
    if name == "sidecar":
        sources |= {f"bottle_fsm/{module}": PACKAGE / module for module in _SIDECAR_MODULES}
        sources |= {f"bottle_fsm/egress/{part}": path for part, path in files_below(PACKAGE / "egress")}
    return sources


@contextmanager
def _build_lock(data_dir: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one launcher of this data directory build an image at a time. The lock file stays: unlinking it would race."""
    locks = data_dir / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"image-{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another launcher builds bottle-{name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(  # noqa: PLR0913 - the image and its surroundings
    engine: Engine, name: ImageName, tag: str, *, say: Callable[[str], None], environ: Mapping[str, str], data_dir: Path
) -> None:
    say(f"building {tag}: one to three minutes and up to 1 GB of disk the first time")
    packages = (data_path("images") / name / "packages.txt").read_text(encoding="utf-8").split()
    base = ensure_base(
        engine,
        upstream=upstream("base"),
        suite=upstream("suite"),
        name=name,
        packages=packages,
        say=say,
        environ=environ,
        data_dir=data_dir,
    )
    with tempfile.TemporaryFile(dir=data_dir) as context, tempfile.TemporaryDirectory(dir=data_dir, prefix="site-") as scratch:
        writer = ContextWriter(context)  # type: ignore[arg-type]  # TemporaryFile is a binary file in all but its stub
        for part, path in _sources(name).items():
            writer.add_file(part, path)
        say(f"fetching what goes into bottle-{name} (PyPI, npm)")
        if name == "agent":
            pins = data_path("images") / "agent" / "npm.json"
            for what, tarball in fetch_npm(pins, data_dir / "artefacts", arch=engine.arch, environ=environ).items():
                writer.add_npm(what, tarball)
        else:
            site = Path(scratch)
            install_python(data_path("images") / "sidecar" / "requirements.txt", site, arch=engine.arch, environ=environ)
            writer.add_tree("site", site, without=("bin", "share", ".lock"))
        writer.close()
        context.seek(0)
        _run_build(engine, context, name, tag=tag, base=base, say=say, environ=environ)


def _run_build(  # noqa: PLR0913 - the parameters of one build
    engine: Engine, context: Any, name: str, *, tag: str, base: Base, say: Callable[[str], None], environ: Mapping[str, str]
) -> None:
    """Let the engine build. A base that has all packages needs no network; another gets the host's, proxies on loopback included."""
    proxies = {} if base.complete else {key: environ[key] for key in _PROXY_VARIABLES if environ.get(key)}
    last: deque[str] = deque(maxlen=15)
    failure = ""
    with engine.guarded(f"build {tag}", timeout=BUILD_TIMEOUT) as api:
        lines = api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base.ref, **proxies},
            labels={LABEL_IMAGE: name, LABEL_BASE: base.ref},
            network_mode="none" if base.complete else "host",
            rm=True,
            forcerm=True,
            decode=True,
        )
        for line in lines:  # to the end in every case: a stream that is left open holds the image
            failure = failure or line.get("error", "")
            text = line.get("stream", "").strip()
            if text:
                last.append(text)
            if text.startswith("Step "):
                say(text)
    if failure:
        error = of_stream(failure, step=f"build {tag}")
        raise type(error)(f"{failure}; its last lines: {' | '.join(last)}", place=error.place, hint=error.hint)
    with engine.guarded(f"tag {tag}") as api:
        if not api.tag(tag, f"bottle-{name}", "latest"):
            raise BackendError(f"{tag} could not be tagged", place=tag)
