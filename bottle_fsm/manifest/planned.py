"""Keys that the schema knows but this release does not enforce: using one is refused.

Nobody shall believe that `scan: warn` holds while it does not. Whoever builds the enforcement of a key takes it
off the list; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bottle_fsm.errors import Problem
from bottle_fsm.manifest.model import Rule
from bottle_fsm.yamlfile import Document, KeyPath

PLANNED_RULE_KEYS: Final = ("bypass_tls", "websocket")


def planned_problems(document: Document) -> Iterator[tuple[KeyPath, Problem]]:
    """Yield a problem for each use of a planned key; a value that equals the key's default is no use."""
    for path, rule in _rules(document.value):
        for key in PLANNED_RULE_KEYS:
            if key in rule and rule[key] != Rule.model_fields[key].default:
                yield _refuse(document, (*path, key), f"`{key}` is planned, but this release does not enforce it yet")


def _refuse(document: Document, path: KeyPath, problem: str) -> tuple[KeyPath, Problem]:
    return path, Problem(document.place(path), problem, "Remove it; nothing is taken as granted that is not enforced")


def _rules(value: Any) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield the rules in long form of a manifest that need not be valid."""
    for name, reach in _mapping(_mapping(value).get("bottles")).items():
        allow = _mapping(_mapping(reach).get("egress")).get("allow")
        for index, rule in enumerate(allow if isinstance(allow, list) else []):
            if isinstance(rule, dict):
                yield ("bottles", name, "egress", "allow", index), rule


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
