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
from typing import Any, Final, Literal, cast, get_args

from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.places import GATE_HOST

Kind = Literal["https", "http", "ssh-tcp"]
HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443
MAX_PORT: Final = 65535
VERSION: Final = 1
RESERVED_SUFFIX: Final = GATE_HOST.partition(".")[2]
"""The domain of our own names; no rule can open it, so that probes of the self-test mean what they say."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One allowed destination: a host or `*.suffix`, a port, and what is spoken there."""

    host: str
    port: int
    kind: Kind

    @property
    def name(self) -> str:
        """Return the rule as logs and verdicts write it, such as `https://*.example.org:443`."""
        return f"{self.kind}://{self.host}:{self.port}"

    def covers(self, host: str, port: int) -> bool:
        """Tell whether a canonical host name and a port fall under this rule; the apex is not in a wildcard."""
        if port != self.port:
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and host != self.host[2:]
        return host == self.host


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The reach of one launch: rules, static addresses, and the names that its logs carry.

    Attributes:
        bottle: `<project>/<agent>`. launch: id of the launch.
        rules: allowed destinations, sorted, without doubles.
        hosts: static name → address pairs, sorted; such an address may be private, for that name only.
        gate_host: the name that the interceptor answers itself.
    """

    bottle: str
    launch: str
    rules: tuple[Rule, ...]
    hosts: tuple[tuple[str, str], ...] = ()
    gate_host: str = GATE_HOST

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
            "rules": [{"host": rule.host, "port": rule.port, "kind": rule.kind} for rule in self.rules],
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
            ValueError: the text is not exactly a policy. A truncated file never reads as a weaker policy.
        """
        value = json.loads(text)
        fields = {"version", "bottle", "launch", "gate_host", "rules", "hosts"}
        if not isinstance(value, dict) or set(value) != fields or value["version"] != VERSION:
            raise ValueError(f"an egress policy is a JSON object with version {VERSION} and exactly {sorted(fields)}")
        for name in ("bottle", "launch", "gate_host"):
            if not isinstance(value[name], str) or not value[name]:
                raise ValueError(f"{name} is a text that is not empty")
        if not isinstance(value["rules"], list) or not isinstance(value["hosts"], dict):
            raise ValueError("rules is a list and hosts is an object")  # noqa: TRY004 - wrong data, as any other field
        return cls(
            bottle=value["bottle"],
            launch=value["launch"],
            rules=_sorted_rules([_rule_of(entry) for entry in value["rules"]]),
            hosts=_hosts_of(value["hosts"]),
            gate_host=normalise_host(value["gate_host"]),
        )


def compile_policy(
    *,
    bottle: str,
    launch: str,
    allow: Sequence[tuple[str, int]],
    ssh: Sequence[tuple[str, int]] = (),
    hosts: Mapping[str, str] | None = None,
) -> EgressPolicy:
    """Build a policy from what a manifest says.

    Args:
        bottle: `<project>/<agent>`.
        launch: id of the launch.
        allow: host or `*.suffix` and port; port 80 means plain HTTP, any other port TLS.
        ssh: exact host and port of each declared raw-TCP destination.
        hosts: static name → address.

    Raises:
        ValueError: a host, port or address makes no sense, a name of ours is asked for, or one destination is both an
            HTTP and an ssh rule.
    """
    rules = [_rule(host, port, "http" if port == HTTP_PORT else "https") for host, port in allow]
    rules += [_rule(host, port, "ssh-tcp") for host, port in ssh]
    return EgressPolicy(bottle=bottle, launch=launch, rules=_sorted_rules(rules), hosts=_hosts_of(hosts or {}))


def is_reserved(name: str) -> bool:
    """Tell whether a canonical host name is one of ours, which no rule can open."""
    return name == RESERVED_SUFFIX or name.endswith("." + RESERVED_SUFFIX)


def _rule_of(entry: Any) -> Rule:
    if not isinstance(entry, dict) or set(entry) != {"host", "port", "kind"}:
        raise ValueError("a rule is an object with exactly host, port and kind")
    return _rule(entry["host"], entry["port"], entry["kind"])


def _rule(host: Any, port: Any, kind: Any) -> Rule:
    if not isinstance(host, str) or kind not in get_args(Kind):
        raise ValueError(f"a rule has a host and one of the kinds {', '.join(get_args(Kind))}")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= MAX_PORT:
        raise ValueError(f"{host}: a port is a number from 1 to {MAX_PORT}")
    wildcard = host.startswith("*.")
    name = normalise_host(host[2:] if wildcard else host)
    if is_reserved(name):
        raise ValueError(f"{host}: names under {RESERVED_SUFFIX} are answered by the launcher's own sidecars")
    if wildcard and kind == "ssh-tcp":
        raise ValueError(f"{host}: an ssh destination is one exact host")
    if kind == "http" and port != HTTP_PORT:
        raise ValueError(f"{host}: plain HTTP is spoken on port {HTTP_PORT} only")
    return Rule(host=f"*.{name}" if wildcard else name, port=port, kind=cast("Kind", kind))


def _sorted_rules(rules: list[Rule]) -> tuple[Rule, ...]:
    unique = sorted(set(rules))
    for first, second in itertools.pairwise(unique):
        if (first.host, first.port) == (second.host, second.port):
            raise ValueError(f"{first.host}:{first.port} is declared both as {first.kind} and as {second.kind}")
    return tuple(unique)


def _hosts_of(hosts: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    pairs = {}
    for name, address in hosts.items():
        if not isinstance(name, str) or not isinstance(address, str):
            raise ValueError("hosts maps a name to one address")  # noqa: TRY004 - wrong data, as any other field
        pairs[normalise_host(name)] = str(ipaddress.ip_address(address))
    return tuple(sorted(pairs.items()))
