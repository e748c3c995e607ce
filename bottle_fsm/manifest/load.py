"""Loads a manifest file: all problems of the file at once, each with its line, or a valid manifest.

Not its duty: looking at this host for skills, keys and variables; `hostcheck` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bottle_fsm import yamlfile
from bottle_fsm.errors import ManifestError, Problem
from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.names import check_name
from bottle_fsm.manifest.planned import planned_problems
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.wording import nearest, word
from bottle_fsm.yamlfile import Document, Key, KeyPath

Finding = tuple[KeyPath, Problem]

_KEY_MARK: Final = "[key]"
"""How pydantic marks a finding about the key of a mapping rather than its value."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid manifest, the real path it was read from, and the positions of its keys."""

    manifest: Manifest
    path: Path
    document: Document

    def place(self, *keys: Key) -> str:
        """Return `file:line key/path` for a message about a key."""
        return self.document.place(keys)


def load_manifest(path: Path, *, name: str | None = None, backend: str | None = None) -> Loaded:
    """Read and check the manifest at `path`.

    Args:
        path: the file.
        name: takes the place of the manifest's `name`.
        backend: takes the place of the manifest's `backend`.

    Raises:
        ManifestError: with every problem of the file.
    """
    document = yamlfile.load(path)
    value = _with_overrides(document, path, name=name, backend=backend)
    findings = [*_name_problems(document, value, path, given=name), *_nulls(document, value)]
    findings += planned_problems(Document(document.name, value, document.lines))
    findings += _references(document, value)
    manifest, more = _validate(document, value, {path for path, _ in findings})
    if findings or more or manifest is None:
        problems = sorted([*findings, *more], key=lambda finding: document.line(finding[0]))
        raise ManifestError([problem for _, problem in problems])
    return Loaded(manifest=manifest, path=path.resolve(), document=document)


def _with_overrides(document: Document, path: Path, *, name: str | None, backend: str | None) -> dict[str, Any]:
    value = {"name": path.stem, **document.value}
    if name is not None:
        value["name"] = name
    if backend is not None:
        value["backend"] = backend
    return value


def _name_problems(document: Document, value: dict[str, Any], path: Path, *, given: str | None) -> Iterator[Finding]:
    """Check a name that does not stand in the file, where pydantic's finding would have no line."""
    if given is None and "name" in document.value:
        return
    try:
        check_name(value["name"])
    except Refusal as refusal:
        if given is None:
            hint = "Add `name:` with letters, digits, `.`, `_` or `-`"
            yield ("name",), Problem(str(path), f"the file's name `{path.stem}` is no valid project name", hint)
        else:
            yield ("name",), Problem("--name", refusal.problem, refusal.hint)


def _nulls(document: Document, value: Any, path: KeyPath = ()) -> Iterator[Finding]:
    """Refuse keys without a value: nobody can tell whether a default or nothing at all was meant."""
    if value is None:
        hint = 'Remove the key or give it a value; write "" for an empty text'
        yield path, Problem(document.place(path), "there is no value", hint)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nulls(document, item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nulls(document, item, (*path, index))


def _references(document: Document, value: dict[str, Any]) -> Iterator[Finding]:
    """Check what one key says about another; works on a manifest that need not be valid."""
    bottles, agents = value.get("bottles"), value.get("agents")
    for key, items in (("bottles", bottles), ("agents", agents)):
        if items == {}:
            yield (key,), Problem(document.place((key,)), f"`{key}` is empty", f"Add one under `{key}`")
    if not isinstance(bottles, dict) or not isinstance(agents, dict):
        return
    for name, agent in agents.items():
        bottle = agent.get("bottle") if isinstance(agent, dict) else None
        if isinstance(bottle, str) and bottle not in bottles:
            path = ("agents", name, "bottle")
            hint = nearest(bottle, tuple(bottles)) if bottles else "Add it under `bottles`"
            yield path, Problem(document.place(path), f"there is no bottle `{bottle}`", hint)


def _validate(document: Document, value: dict[str, Any], known: set[KeyPath]) -> tuple[Manifest | None, list[Finding]]:
    """Return the manifest, or what pydantic finds beyond the paths that have a problem already."""
    try:
        return Manifest.model_validate(value), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        echoes = _echoes(details)
        findings = [_finding(document, value, dict(d)) for d in details if d["loc"] not in echoes]
        return None, [finding for finding in findings if not _under(finding[0], known)]


def _echoes(details: list[ErrorDetails]) -> set[KeyPath]:
    """Return the lists that only count as too short because their items are refused."""
    above = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
    return {detail["loc"] for detail in details if detail["type"] == "too_short" and detail["loc"] in above}


def _under(path: KeyPath, known: set[KeyPath]) -> bool:
    return any(path[:depth] in known for depth in range(len(path) + 1))


def _finding(document: Document, value: dict[str, Any], detail: Any) -> Finding:
    if detail["loc"][-1:] == (_KEY_MARK,):
        detail["loc"] = detail["loc"][:-1]
    problem, hint = word(detail)
    path = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
    cause = detail.get("ctx", {}).get("error")
    path = _existing(value, (*path, *cause.at) if isinstance(cause, Refusal) else path)
    return path, Problem(document.place(path), problem, hint)


def _existing(value: Any, path: KeyPath) -> KeyPath:
    """Cut a path to what the file has: a short form has no keys of its own, and one mapping may stand for a list."""
    found: KeyPath = ()
    for key in path:
        if isinstance(value, dict) and isinstance(key, int) and key not in value:
            continue
        inside = key in value if isinstance(value, dict) else isinstance(value, list) and isinstance(key, int)
        if not inside:
            return found
        value = value[key]
        found = (*found, key)
    return found
