"""The rules of a bottle's reach as a plan holds them: in long form, the provider's own beside the manifest's. Pure.

An entry is a JSON object with host, port, and what is not as it is by default; `egress.rule.rule_of_entry` reads it.
Not its duty: what an entry means (`egress.rule`), and whether a rule is of any use (`remarks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bottle_fsm.egress.rule import HTTPS_PORT, METHODS, default_credentials
from bottle_fsm.manifest.reach import Reach, Rule
from bottle_fsm.model import Json
from bottle_fsm.plan.providers import Provider

_FLAGS: Final = ("websocket", "bypass_tls")


def allow_entries(reach: Reach, provider: Provider) -> list[Json]:
    """Return an entry for each rule of the manifest, and for each host of the provider that it has no rule for.

    Entries are sorted by host and port. A rule of the manifest takes the place of the provider's own; what it leaves
    open about scan and credentials stays as the provider needs it.
    """
    provided = {(e["host"], e["port"]): e for e in provider_entries(provider.hosts)}
    found = dict(provided)
    for rule in reach.egress.allow:
        found[rule.host, rule.port] = entry_of(rule, provided.get((rule.host, rule.port)))
    return [entry for _, entry in sorted(found.items())]


def provider_entries(hosts: Sequence[str]) -> list[Json]:
    """Return the entries of a provider's hosts; the first is its model's, whose prompts no scan could tell apart."""
    entries: list[Json] = [{"host": host, "port": HTTPS_PORT, "credentials": "injected"} for host in hosts]
    return [{**entry, "scan": "off"} if not number else entry for number, entry in enumerate(entries)]


def entry_of(rule: Rule, provided: Json | None = None) -> Json:
    """Return the entry of one rule of a manifest: equal for equal wishes, and without any value that is injected.

    Args:
        rule: the rule.
        provided: the provider's own entry for this host and port, if it has one.
    """
    injected = sorted(f"{one.kind} {one.name or 'Authorization'}" for one in rule.inject or ())
    by_default = default_credentials(injected)
    scan = rule.scan or (provided or {}).get("scan", "block")
    credentials = rule.credentials or (provided or {}).get("credentials", by_default)
    wishes: Json = {
        "methods": [method for method in METHODS if method in (rule.methods or ())],
        "paths": sorted(set(rule.paths or ())),
        "scan": scan if scan != "block" else "",
        "credentials": credentials if credentials != by_default else "",
        "inject": injected,
        **{name: getattr(rule, name) for name in _FLAGS},
    }
    return {"host": rule.host, "port": rule.port, **{name: wish for name, wish in wishes.items() if wish}}
