"""What was denied because no rule names it, as rules to review. Pure; nothing is changed by it.

A host name that an agent asked for is the agent's own text: only what a manifest would take is ever suggested, and
methods and paths stand in comments, escaped. Not its duty: deciding that anything should be allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.egress.rule import MAX_PORT, is_reserved
from bottle_fsm.manifest.hosts import check_host
from bottle_fsm.model import Json
from bottle_fsm.naming import ROLE_INTERCEPTOR
from bottle_fsm.traffic.lines import read

UNNAMED: Final = "not_listed"
"""The reason of a decision when no rule names host and port."""
EXAMPLES: Final = 5
"""How many methods and paths are shown of a host."""
_PATH: Final = 80
_HTTPS: Final = 443
_RELAY: Final = "relay"
_PLAIN: Final = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+")
"""Host names that YAML takes for nothing but a text."""


@dataclass(slots=True)
class Denied:
    """One host and port that was denied.

    Attributes:
        ssh: it was asked for as an ssh destination. count: how often. last: when for the last time.
        methods, paths: what was asked for, the first few of each; a CONNECT shows no path.
    """

    host: str
    port: int
    ssh: bool
    count: int = 0
    last: str = ""
    methods: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """Return it as `policy suggest --json` prints it."""
        names = ("host", "port", "ssh", "count", "last", "methods", "paths")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to review: the most frequent first; and how many names were left out that no manifest would take."""

    denied: tuple[Denied, ...]
    left_out: int


def suggest(lines: Iterable[bytes], allowed: Callable[[str, int], bool]) -> Suggestion:
    """Return what was denied for want of a rule, without what is `allowed` by now."""
    found: dict[tuple[str, int, bool], Denied] = {}
    strange: set[str] = set()
    for value in map(read, lines):
        if not _unnamed(value):
            continue
        asked, port = str(value["host"]), value["port"]
        try:
            host = check_host(asked)
        except ValueError:
            if not is_reserved(asked.lower().removesuffix(".")):
                strange.add(asked)
            continue
        if not 0 < port <= MAX_PORT or allowed(host, port):
            continue
        key = (host, port, value.get("by") == _RELAY)
        _note(found.setdefault(key, Denied(*key)), value)
    ranked = sorted(found.values(), key=lambda item: (-item.count, item.host, item.port, item.ssh))
    return Suggestion(tuple(ranked), len(strange))


def as_yaml(suggestion: Suggestion) -> list[str]:
    """Return lines of YAML for a bottle's `egress`, each with what was seen as a comment."""
    rules = [item for item in suggestion.denied if not item.ssh]
    lines = [f"  - {_quoted(item)}  # {_seen(item)}" for item in rules]
    if lines:
        lines = ["allow:", *lines]
    lines += [
        f"# ssh to {item.host}:{item.port}: {_times(item)}; an entry of `ssh:` with a key allows it"
        for item in suggestion.denied
        if item.ssh
    ]
    return lines


def _unnamed(value: Json) -> bool:
    mine = value.get("source") == ROLE_INTERCEPTOR and value.get("event") == "decision"
    return mine and value.get("reason") == UNNAMED and isinstance(value.get("port"), int) and "host" in value


def _note(item: Denied, value: Json) -> None:
    item.count += 1
    item.last = str(value.get("time", ""))
    for known, name in ((item.methods, "method"), (item.paths, "path")):
        seen = str(value.get(name, ""))[:_PATH]
        if seen and seen not in known and len(known) < EXAMPLES:
            known.append(seen)


def _quoted(item: Denied) -> str:
    text = item.host if item.port == _HTTPS else f"{item.host}:{item.port}"
    return text if _PLAIN.fullmatch(item.host) else json.dumps(text)


def _seen(item: Denied) -> str:
    return "; ".join([_times(item), *_examples(item)])


def _times(item: Denied) -> str:
    return f"{item.count} times" if item.count > 1 else "once"


def _examples(item: Denied) -> Iterator[str]:
    """Yield methods and paths as JSON texts: plain characters on one line, whatever the agent wrote."""
    if item.methods:
        yield " ".join(json.dumps(method).strip('"') for method in item.methods)
    if item.paths:
        yield " ".join(map(json.dumps, item.paths))
