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

    Entries are sorted by host and port. A rule of the manifest takes the place of the provider's own wholly.
    """
    own = [entry_of(rule) for rule in reach.egress.allow]
    taken = {(entry["host"], entry["port"]) for entry in own}
    provided = [e for e in provider_entries(provider.hosts) if (e["host"], e["port"]) not in taken]
    return sorted([*own, *provided], key=lambda entry: (entry["host"], entry["port"]))


def provider_entries(hosts: Sequence[str]) -> list[Json]:
    """Return the entries of a provider's hosts; the first is its model's, whose prompts no scan could tell apart."""
    entries: list[Json] = [{"host": host, "port": HTTPS_PORT, "credentials": "injected"} for host in hosts]
    return [{**entry, "scan": "off"} if not number else entry for number, entry in enumerate(entries)]


def entry_of(rule: Rule) -> Json:
    """Return the entry of one rule of a manifest: equal for equal wishes, and without any value that is injected."""
    injected = sorted(f"{one.kind} {one.name or 'Authorization'}" for one in rule.inject or ())
    wishes: Json = {
        "methods": [method for method in METHODS if method in (rule.methods or ())],
        "paths": sorted(set(rule.paths or ())),
        "scan": rule.scan if rule.scan != "block" else "",
        "credentials": rule.credentials if rule.credentials != default_credentials(injected) else "",
        "inject": injected,
        **{name: getattr(rule, name) for name in _FLAGS},
    }
    return {"host": rule.host, "port": rule.port, **{name: wish for name, wish in wishes.items() if wish}}
