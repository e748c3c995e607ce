"""The Debian root under our images: an upstream image where a registry is reachable, else one made by mmdebstrap here.

Not its duty: what is built on it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.context import digest_of
from bottle_fsm.backend.docker.pull import image_id, pull, registry_has
from bottle_fsm.errors import BackendError, ImageMissingError, StepTimeoutError

DEBIAN = "http://deb.debian.org/debian"
DEBIAN_SECURITY = "http://deb.debian.org/debian-security"
LABEL_IMAGE = "bottle-fsm.image"
_RECIPE = "1"  # goes up when the same packages must give another root
_ROOT_TIMEOUT = 1800.0
_IMPORT_TIMEOUT = 300.0
_APT_SETTING = re.compile(
    r'^(Acquire::https?::(?:Proxy|Proxy-Auto-Detect|CaInfo|CAInfo)(?:::[^ ]+)?) "(.+)";$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Base:
    """A base on the engine: its reference, and whether the wanted packages are in it already."""

    ref: str
    complete: bool


def ensure_base(  # noqa: PLR0913 - what, for whom, from where, with which say
    engine: Engine,
    *,
    upstream: str,
    suite: str,
    name: str,
    packages: Sequence[str],
    say: Callable[[str], None],
    environ: Mapping[str, str],
    scratch: Path,
) -> Base:
    """Return a base image that is on the engine afterwards.

    Raises:
        ImageMissingError: no registry is reachable, and mmdebstrap is missing or failed.
    """
    own = f"bottle-base:{name}-{digest_of({}, _RECIPE, suite, engine.arch, *packages)[:16]}"
    if image_id(engine, own):
        return Base(own, complete=True)
    if image_id(engine, upstream):
        return Base(upstream, complete=False)
    if registry_has(engine, upstream):
        say(f"pulling {upstream}: about 30 MB")
        pull(engine, upstream, say=say)
        return Base(upstream, complete=False)
    say(f"the engine reaches no registry with {upstream}")
    say(f"making a Debian {suite} root with mmdebstrap instead: about 30 s, 350 MB of disk")
    _make_root(engine, own, suite=suite, packages=packages, environ=environ, scratch=scratch)
    return Base(own, complete=True)


def _make_root(  # noqa: PLR0913 - the root's name, contents and surroundings
    engine: Engine, ref: str, *, suite: str, packages: Sequence[str], environ: Mapping[str, str], scratch: Path
) -> None:
    """Make a Debian root on this host and import it. It is imported whole or not at all."""
    if not shutil.which("mmdebstrap", path=environ.get("PATH")):
        raise ImageMissingError(
            "the engine reaches no registry and mmdebstrap is not installed: there is nothing to build images from",
            place=ref,
            hint="apt-get install mmdebstrap, or let the engine reach a registry (its proxy settings)",
        )
    root = scratch / "root.tar"
    options = scratch / "apt.conf"
    options.write_text(apt_options(environ))
    options.chmod(0o600)
    command = root_command(suite, root, packages=packages, arch=engine.arch, mirrors=mirrors(environ), options=options)
    code, words = _run_mmdebstrap(command, environ, place=ref)
    if code != 0:
        tail = " | ".join(words.splitlines()[-6:])
        raise ImageMissingError(
            f"mmdebstrap failed ({code}): {tail}",
            place=ref,
            hint="Check the network and apt's proxy settings; BOTTLE_DEBIAN_MIRROR names another mirror",
        )
    _import(engine, root, ref)
    root.unlink()
    options.unlink()


def _run_mmdebstrap(command: list[str], environ: Mapping[str, str], *, place: str) -> tuple[int, str]:
    """Return exit code and standard error. It mounts file systems: it is ended by a signal that lets it clean up."""
    with subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            _, words = running.communicate(timeout=_ROOT_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            running.terminate()
            running.communicate()
            raise StepTimeoutError(f"mmdebstrap did not end within {error.timeout:.0f} s", place=place) from error
    return running.returncode, words


def _import(engine: Engine, root: Path, ref: str) -> None:
    repository, tag = ref.split(":")
    changes = [f"LABEL {LABEL_IMAGE}=base", 'CMD ["/bin/bash"]']
    with engine.guarded(f"import {ref}", timeout=_IMPORT_TIMEOUT) as api:
        answer = api.import_image_from_file(str(root), repository=repository, tag=tag, changes=changes)
    if image_id(engine, ref) is None:
        raise BackendError(f"the engine did not keep the imported root: {answer}", place=ref)


def root_command(  # noqa: PLR0913 - the root's contents and where they come from
    suite: str, target: Path, *, packages: Sequence[str], arch: str, mirrors: tuple[str, str], options: Path
) -> list[str]:
    """Return mmdebstrap's command line. Apt's options come in a file, as a proxy may have a password, and go again."""
    mirror, security = mirrors
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--architectures={arch}",
        f"--include={','.join(packages)}",
        f"--aptopt={options}",
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        suite,
        str(target),
        f"deb {mirror} {suite} main",
        f"deb {mirror} {suite}-updates main",
        f"deb {security} {suite}-security main",
    ]


def apt_options(environ: Mapping[str, str]) -> str:
    """Return this host's apt settings for proxies and CAs, as a configuration file has them."""
    found = _APT_SETTING.findall(_output(["apt-config", "dump"], environ))
    return "".join(f'{name} "{value}";\n' for name, value in found)


def mirrors(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the Debian mirror and security mirror: as BOTTLE_DEBIAN_MIRROR says, else as this host has them.

    Raises:
        BackendError: the named mirror holds a password.
    """
    named = environ.get("BOTTLE_DEBIAN_MIRROR", "").rstrip("/")
    if "@" in named:
        raise BackendError(
            "a mirror with a password would stay readable in the image",
            place="BOTTLE_DEBIAN_MIRROR",
            hint="Use a proxy",
        )
    if named:
        return named, f"{named}-security"
    return _site("Debian", environ) or DEBIAN, _site("Debian-Security", environ) or DEBIAN_SECURITY


def _site(label: str, environ: Mapping[str, str]) -> str:
    """Return the first archive of a label in apt's own list, whichever way its sources are written."""
    sites = _output(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian", f"Label: {label}"], environ
    ).split()
    return sites[0].rstrip("/") if sites else ""


def _output(command: list[str], environ: Mapping[str, str]) -> str:
    """Return what a small query of apt prints; nothing where there is no apt."""
    try:
        return subprocess.run(
            command,
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
