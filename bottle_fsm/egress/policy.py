"""EgressPolicy: where one bottle may send bytes, as data. Everything that the sidecars are told is its JSON.

Pure: no I/O, standard library only, because it is imported inside the sidecars, too. Default deny: what no rule names
is refused. Not its duty: deciding about a request (see `verdict`), or opening connections.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.rule import (
    HTTP_PORT,
    HTTPS_PORT,
    RESERVED_SUFFIX,
    Kind,
    Rule,
    is_reserved,
    rule_of_entry,
    ssh_rule,
)
from bottle_fsm.places import GATE_HOST

__all__ = [
    "HTTPS_PORT",
    "HTTP_PORT",
    "RESERVED_SUFFIX",
    "EgressPolicy",
    "Kind",
    "Rule",
    "compile_policy",
    "is_reserved",
]

VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The reach of one launch: rules, static addresses, and the names that its logs carry.

    Attributes:
        bottle: `<project>/<agent>`. launch: id of the launch.
        rules: allowed destinations, sorted, without doubles.
        hosts: static name → address pairs, sorted; such an address may be private, for that name only.
        gate_host: the name that the interceptor answers itself.
        model_host: the host of the agent's model, empty when there is none. A known secret on its way there is
            replaced, not refused: an agent that once printed its environment must stay usable.
    """

    bottle: str
    launch: str
    rules: tuple[Rule, ...]
    hosts: tuple[tuple[str, str], ...] = ()
    gate_host: str = GATE_HOST
    model_host: str = ""

    def match(self, host: str, port: int) -> Rule | None:
        """Return the rule that allows a host and port, an exact one before a wildcard; None when there is none.

        A text that is no host name matches nothing. Names of our own are never matched.
        """
        try:
            name = normalise_host(host)
        except ValueError:
            return None
        if is_reserved(name):
            return None
        found = [rule for rule in self.rules if rule.covers(name, port)]
        return min(found, key=lambda rule: (rule.host.startswith("*."), -len(rule.host)), default=None)

    def address_of(self, host: str) -> str | None:
        """Return the static address of a canonical host name, or None when it is to be resolved."""
        return dict(self.hosts).get(host)

    def to_json(self) -> str:
        """Return the policy as canonical JSON text: equal policies give equal bytes."""
        value = {
            "version": VERSION,
            "bottle": self.bottle,
            "launch": self.launch,
            "gate_host": self.gate_host,
            "model_host": self.model_host,
            "rules": [rule.to_json() for rule in self.rules],
            "hosts": dict(self.hosts),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return the SHA-256 of `to_json` as hexadecimal text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> EgressPolicy:
        """Read a policy strictly: unknown, missing or wrong fields are refused. An empty rule list allows nothing.

        Raises:
            ValueError: the text is not byte for byte what `to_json` writes of a policy. A truncated or edited file,
                or one in which a key stands twice, never reads as a weaker policy.
        """
        value = json.loads(text)
        fields = {"version", "bottle", "launch", "gate_host", "model_host", "rules", "hosts"}
        if not isinstance(value, dict) or set(value) != fields or value["version"] != VERSION:
            raise ValueError(f"an egress policy is a JSON object with version {VERSION} and exactly {sorted(fields)}")
        for name in ("bottle", "launch", "gate_host"):
            if not isinstance(value[name], str) or not value[name]:
                raise ValueError(f"{name} is a text that is not empty")
        if not isinstance(value["model_host"], str):
            raise ValueError("model_host is a text")  # noqa: TRY004 - wrong data, as any other field
        if not isinstance(value["rules"], list) or not isinstance(value["hosts"], dict):
            raise ValueError("rules is a list and hosts is an object")  # noqa: TRY004 - wrong data, as any other field
        policy = cls(
            bottle=value["bottle"],
            launch=value["launch"],
            rules=_sorted_rules([Rule.from_json(entry) for entry in value["rules"]]),
            hosts=_hosts_of(value["hosts"]),
            gate_host=normalise_host(value["gate_host"]),
            model_host=_optional_host(value["model_host"]),
        )
        if policy.to_json() != text:
            raise ValueError("an egress policy is written in its canonical form")
        return policy


def compile_policy(  # noqa: PLR0913 - the parts of a policy, by name
    *,
    bottle: str,
    launch: str,
    allow: Sequence[Any],
    ssh: Sequence[tuple[str, int]] = (),
    hosts: Mapping[str, str] | None = None,
    model_host: str = "",
) -> EgressPolicy:
    """Build a policy from what a manifest says.

    Args:
        bottle: `<project>/<agent>`.
        launch: id of the launch.
        allow: rules in long form, objects with host or `*.suffix`, port, and what is not as it is by default (see
            `rule.rule_of_entry`), or host and port alone; port 80 means plain HTTP, any other port TLS.
        ssh: exact host and port of each declared raw-TCP destination.
        hosts: static name → address.
        model_host: the host of the agent's model, if it has one.

    Raises:
        ValueError: a rule or an address makes no sense, a name of ours is asked for, or one destination has two rules
            that differ.
    """
    rules = [*(rule_of_entry(entry) for entry in allow), *(ssh_rule(host, port) for host, port in ssh)]
    return EgressPolicy(
        bottle=bottle,
        launch=launch,
        rules=_sorted_rules(rules),
        hosts=_hosts_of(hosts or {}),
        model_host=_optional_host(model_host),
    )


def _optional_host(text: str) -> str:
    return normalise_host(text) if text else ""


def _sorted_rules(rules: list[Rule]) -> tuple[Rule, ...]:
    unique = sorted(set(rules))
    for first, second in itertools.pairwise(unique):
        if (first.host, first.port) == (second.host, second.port):
            how = "twice" if first.kind == second.kind else f"both as {first.kind} and as {second.kind}"
            raise ValueError(f"{first.host}:{first.port} is declared {how}")
    return tuple(unique)


def _hosts_of(hosts: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    pairs = {}
    for name, address in hosts.items():
        if not isinstance(name, str) or not isinstance(address, str):
            raise ValueError("hosts maps a name to one address")  # noqa: TRY004 - wrong data, as any other field
        pairs[normalise_host(name)] = str(ipaddress.ip_address(address))
    return tuple(sorted(pairs.items()))
