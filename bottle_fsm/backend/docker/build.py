"""Building one image of ours: base, fetched artefacts, context, the engine's classic builder.

Not its duty: whether it has to be built.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from bottle_fsm.backend.docker.artefacts import fetch_npm, install_python
from bottle_fsm.backend.docker.baseimage import LABEL_IMAGE, Base, ensure_base
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.context import ContextWriter, digest_of, files_below
from bottle_fsm.backend.docker.errors import of_stream
from bottle_fsm.resources import PACKAGE, data_path

ImageName = Literal["agent", "sidecar"]
LABEL_BASE: Final = "bottle-fsm.image-base"
BUILD_TIMEOUT: Final = 900.0
_SIDECAR_MODULES: Final = ("__init__.py", "hostname.py", "pathglob.py", "places.py")
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LAST_LINES: Final = 15
_RECIPE: Final = "1"  # goes up when this code makes another image of the same files


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every step of a build needs: whom to tell, the launcher's environment, and a place for files."""

    say: Callable[[str], None]
    environ: Mapping[str, str]
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image of ours is made from.

    Attributes:
        name: which image.
        base: the upstream base; suite: the Debian suite for a base made here.
        files: the build context but for what is fetched, by name in it.
    """

    name: ImageName
    base: str
    suite: str
    files: dict[str, Path]

    def tag(self, arch: str) -> str:
        """Return the content-digest tag: the same content, base and architecture give the same tag."""
        return f"bottle-{self.name}:{digest_of(self.files, _RECIPE, self.base, self.suite, arch)[:16]}"

    @property
    def packages(self) -> list[str]:
        """Return the Debian packages that the image needs."""
        return self.files["packages.txt"].read_text(encoding="utf-8").split()


def upstream(name: str) -> str:
    """Return an entry of the one file that names upstream images: `base`, `suite`, `pipelock`."""
    return str(json.loads((data_path("images") / "upstream.json").read_text(encoding="utf-8"))[name])


def recipe(name: ImageName) -> Recipe:
    """Return the recipe of an image, as this version of bottle-fsm has it."""
    files = dict(files_below(data_path("images") / name))
    if name == "sidecar":
        files |= {f"bottle_fsm/{module}": PACKAGE / module for module in _SIDECAR_MODULES}
        files |= {f"bottle_fsm/egress/{part}": path for part, path in files_below(PACKAGE / "egress")}
    return Recipe(name, upstream("base"), upstream("suite"), files)


@contextmanager
def build_lock(data_dir: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one launcher of this data directory build an image at a time. The lock file stays: removing it would race."""
    locks = data_dir / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"image-{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another launcher builds bottle-{name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(engine: Engine, what: Recipe, tag: str, *, around: Surroundings) -> None:
    """Build an image and give it its tag. The caller holds the build lock.

    Raises:
        ImageMissingError: there is no base to build on.
        BackendError: something cannot be fetched, or the build failed; the message holds its last lines.
    """
    around.say(f"building {tag}: one to three minutes and up to 1 GB of disk the first time")
    with _scratch(around.data_dir, what.name) as scratch:
        base = ensure_base(
            engine,
            upstream=what.base,
            suite=what.suite,
            name=what.name,
            packages=what.packages,
            say=around.say,
            environ=around.environ,
            scratch=scratch,
        )
        with tempfile.TemporaryFile(dir=scratch) as context:
            _write_context(context, what, arch=engine.arch, around=around, scratch=scratch)
            context.seek(0)
            _run(engine, context, base, what=what, tag=tag, around=around)


@contextmanager
def _scratch(data_dir: Path, name: str) -> Iterator[Path]:
    """Lend a directory for one build; what a killed build left in it goes first."""
    scratch = data_dir / f"scratch-{name}"
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    yield scratch
    shutil.rmtree(scratch)


def _write_context(target: IO[bytes], what: Recipe, *, arch: str, around: Surroundings, scratch: Path) -> None:
    """Write the build context: the recipe's files, and what is fetched on this host."""
    writer = ContextWriter(target)
    for part, path in what.files.items():
        writer.add_file(part, path)
    if "npm.json" in what.files:
        around.say(f"fetching Node and npm for bottle-{what.name}: about 50 MB")
        cache = around.data_dir / "artefacts"
        for prefix, tarball in fetch_npm(what.files["npm.json"], cache, arch=arch, environ=around.environ).items():
            writer.add_npm(prefix, tarball)
    if "requirements.txt" in what.files:
        around.say(f"fetching Python packages for bottle-{what.name}: about 30 MB")
        install_python(what.files["requirements.txt"], scratch / "site", arch=arch, environ=around.environ)
        writer.add_tree("site", scratch / "site", without=("bin", "share", ".lock"))
    writer.close()


def _run(  # noqa: PLR0913 - where, from what, on what, and how it is called
    engine: Engine, context: IO[bytes], base: Base, *, what: Recipe, tag: str, around: Surroundings
) -> None:
    """Let the engine build.

    A base that has all packages needs no network. Another one gets the engine host's own, so that a proxy on its
    loopback works, and that an engine without a default bridge can build, too.
    """
    proxies = {key: around.environ[key] for key in _PROXY_VARIABLES if around.environ.get(key)}
    step = f"build {tag}"
    with engine.guarded(step, timeout=BUILD_TIMEOUT) as api:
        lines = api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base.ref, **({} if base.complete else proxies)},
            labels={LABEL_IMAGE: what.name, LABEL_BASE: base.ref},
            network_mode="none" if base.complete else "host",
            rm=True,
            forcerm=True,
            decode=True,
        )
        failure, last = _follow(lines, around.say)
    if failure:
        error = of_stream(failure, step=step)
        raise type(error)(f"{failure}; its last lines: {' | '.join(last)}", place=error.place, hint=error.hint)


def _follow(lines: Iterator[dict[str, Any]], say: Callable[[str], None]) -> tuple[str, deque[str]]:
    """Return the error and the last lines of a build, read to its end: a stream that is left open holds the image."""
    failure = ""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    for line in lines:
        failure = failure or line.get("error", "")
        text = line.get("stream", "").strip()
        if text:
            last.append(text)
        if text.startswith("Step "):
            say(text.split(";")[0].splitlines()[0][:100])
    return failure, last
