"""Looks at the engine that the environment names. Nothing is made, pulled or changed.

Not its duty: what the facts mean (`engine`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bottle_fsm.doctor.bounded import SECONDS, bounded
from bottle_fsm.doctor.engine import EngineFacts
from bottle_fsm.naming import Labels

if TYPE_CHECKING:
    from bottle_fsm.backend.docker.client import Engine

_CALL: Final = SECONDS - 1.0
"""Seconds that the engine may be silent: its own words about that are better than ours."""


def address_of(environ: Mapping[str, str]) -> str:
    """Return the address that the environment names, which may hold a password; empty when it names none."""
    from bottle_fsm.backend.docker.endpoint import resolve  # noqa: PLC0415 - start-up budget

    return (look.value.url if (look := bounded(lambda: resolve(environ))).value else "") or ""


def look_at_engine(environ: Mapping[str, str]) -> tuple[EngineFacts, dict[str, bool]]:
    """Return the facts, and whether each upstream image that bottles could use is there, by reference."""
    from bottle_fsm.backend.docker.client import connect  # noqa: PLC0415 - start-up budget
    from bottle_fsm.backend.docker.endpoint import resolve  # noqa: PLC0415 - start-up budget

    address = bounded(lambda: resolve(environ))
    if address.value is None:
        return EngineFacts(problem=address.problem, hint=address.hint, source=_source(environ, "")), {}
    url = address.value.url
    facts = EngineFacts(url=hidden(url, url), source=_source(environ, url))
    began = time.monotonic()
    met = bounded(lambda: connect(environ, timeout=_CALL))
    if met.value is None:
        hint = met.hint or "Is it busy, or is its machine away? Set DOCKER_HOST or a docker context to another one"
        slow = time.monotonic() - began >= _CALL
        return replace(facts, problem=hidden(met.problem, url), hint=hint, slow=slow), {}
    engine = met.value
    try:
        facts = replace(facts, version=engine.version, api_version=engine.api_version)
        seen = bounded(lambda: _survey(engine, facts))
        return seen.value or (replace(facts, unknown=hidden(seen.problem, url)), {})
    finally:
        bounded(engine.close)


def hidden(text: str, url: str) -> str:
    """Return a text as it may be shown: the password of an engine's address, if it has one, is left out."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return text
    return text.replace(f":{password}@", ":***@") if password else text


def _survey(engine: Engine, facts: EngineFacts) -> tuple[EngineFacts, dict[str, bool]]:
    from bottle_fsm.backend.docker.build import upstream  # noqa: PLC0415 - start-up budget
    from bottle_fsm.backend.docker.images import IMAGE_NAMES, image_tag  # noqa: PLC0415 - start-up budget
    from bottle_fsm.backend.docker.pull import image_id  # noqa: PLC0415 - start-up budget
    from bottle_fsm.manifest.model import Networks  # noqa: PLC0415 - start-up budget

    with engine.guarded("look at the engine", timeout=_CALL) as api:
        info: dict[str, Any] = dict(api.info())
        listed: list[dict[str, Any]] = list(api.networks())
    tags = [image_tag(name, arch=engine.arch) for name in IMAGE_NAMES]
    pipelock, default = upstream("pipelock"), Networks()
    found = replace(
        facts,
        os=str(info.get("OSType") or "linux"),
        root_dir=str(info.get("DockerRootDir") or ""),
        free=_free(engine.url, info),
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        images={tag: image_id(engine, tag) is not None for tag in tags},
        networks=len(listed),
        ours=sum(Labels.of(dict(item.get("Labels") or {})) is not None for item in listed),
        subnets=tuple(str(part.get("Subnet", "")) for item in listed for part in _parts(item)),
        pool=tuple(default.pool),
        prefix=default.prefix,
        default_pools=tuple(f"{p.get('Base')} in /{p.get('Size')}" for p in info.get("DefaultAddressPools") or ()),
    )
    return found, {pipelock: image_id(engine, pipelock) is not None}


def _parts(network: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((network.get("IPAM") or {}).get("Config") or ())


def _free(url: str, info: Mapping[str, Any]) -> int | None:
    """Return the free bytes where the engine stores, if that is a directory of this machine."""
    if not url.startswith("unix://") or info.get("Name") != os.uname().nodename:
        return None  # behind the socket may be a virtual machine, which has another disk
    try:
        return shutil.disk_usage(str(info.get("DockerRootDir"))).free
    except OSError:
        return None


def _source(environ: Mapping[str, str], url: str) -> str:
    """Say what named the engine, in the order that the docker client keeps."""
    if environ.get("DOCKER_HOST"):
        return "DOCKER_HOST"
    if environ.get("DOCKER_CONTEXT"):
        return f"DOCKER_CONTEXT={environ['DOCKER_CONTEXT']}"
    from bottle_fsm.backend.docker.endpoint import DEFAULT_URL  # noqa: PLC0415 - start-up budget

    return "the default one" if url == DEFAULT_URL else "the docker client's current context"
