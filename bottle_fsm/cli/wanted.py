"""Wanted: the bottles that a manifest and the words on the command line ask for, checked against this host.

Everything that is wrong is found here, together, before the state directory or an engine is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bottle_fsm.cli.choice import choose_all
from bottle_fsm.errors import ValidationError
from bottle_fsm.manifest.hostcheck import validate_host
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Host
from bottle_fsm.naming import bottle_name
from bottle_fsm.plan.remarks import remarks


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is meant: a spec for each bottle, and what to know of its rules, by bottle."""

    specs: tuple[BottleSpec, ...]
    remarks: Mapping[str, tuple[str, ...]]


def wanted(
    manifest: Path, words: Sequence[str], host: Host, *, name: str | None = None, backend: str | None = None
) -> Wanted:
    """Return the bottles that are meant: those named, or all of the manifest.

    Raises:
        ManifestError: the file is wrong, with every problem.
        ValidationError: this host lacks what the file names, with every problem of every bottle that is meant.
        UsageError: a word names no bottle of the manifest.
    """
    loaded = load_manifest(manifest, name=name, backend=backend)
    agents = {bottle_name(loaded.manifest.name, agent): agent for agent in loaded.manifest.agents}
    chosen = choose_all(words, agents) if words else list(agents)
    found = specs(loaded.manifest, loaded.path, [agents[bottle] for bottle in chosen])
    problems = [p for spec in found for p in validate_host(spec, host, place=loaded.place)]
    if problems:
        raise ValidationError(list(dict.fromkeys(problems)))
    return Wanted(found, {spec.bottle: tuple(map(str, remarks(spec, loaded.place))) for spec in found})
