"""Rule: one allowed destination, what is spoken there, and what is wished of it, as data; read strictly.

Pure, standard library only: it is imported inside the sidecars, too. Not its duty: which rule holds for a request
(`policy`), and doing what a rule says: `verdict` has methods and paths, and the rest is carried for others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast, get_args

from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.pathglob import glob_example, glob_problem
from bottle_fsm.places import GATE_HOST

Kind = Literal["https", "http", "ssh-tcp"]
Scan = Literal["block", "warn", "off"]
Credentials = Literal["injected", "none", "agent"]

HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443
MAX_PORT: Final = 65535
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What a rule may name, in the order in which it is kept."""
RESERVED_SUFFIX: Final = GATE_HOST.partition(".")[2]
"""The domain of our own names; no rule can open it, so that probes of the self-test mean what they say."""
EXAMPLE_LABEL: Final = "bottle-selftest"
"""The made-up label in the place of a `*` when a rule is asked about."""
_INJECTED: Final = re.compile(r"[a-z]{1,16} [A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One allowed destination: a host or `*.suffix`, a port, and what is spoken there.

    Attributes:
        host, port, kind: the destination; kind is what is spoken.
        methods: HTTP methods that are allowed, in the order of `METHODS`; empty: all.
        paths: globs of the paths that are allowed (see `pathglob`), sorted; empty: all.
        scan: what a secret in the body of a request leads to. credentials: whose may be sent.
        websocket: the upgrade is allowed. bypass_tls: TLS stays closed, so nothing inside can be checked.
        inject: names of what is put into each request, such as `header Authorization`; never values.
    """

    host: str
    port: int
    kind: Kind
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    scan: Scan = "block"
    credentials: Credentials = "none"
    websocket: bool = False
    bypass_tls: bool = False
    inject: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the rule as logs and verdicts write it, such as `https://*.example.org:443`."""
        return f"{self.kind}://{self.host}:{self.port}"

    @property
    def limited(self) -> bool:
        """Tell whether methods or paths are limited, so that no request may be unclear about its own."""
        return bool(self.methods or self.paths)

    def covers(self, host: str, port: int) -> bool:
        """Tell whether a canonical host name and a port fall under this rule; the apex is not in a wildcard."""
        if port != self.port:
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and host != self.host[2:]
        return host == self.host

    def example(self) -> tuple[str, str, str]:
        """Return host, method and path of a request that this rule allows."""
        host = f"{EXAMPLE_LABEL}.{self.host[2:]}" if self.host.startswith("*.") else self.host
        path = glob_example(self.paths[0], EXAMPLE_LABEL) if self.paths else "/"
        return host, self.methods[0] if self.methods else "GET", path

    def to_json(self) -> dict[str, Any]:
        """Return the rule with every field, tuples as lists."""
        return {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in _FIELDS}

    @classmethod
    def from_json(cls, value: Any) -> Rule:
        """Read a rule strictly: exactly the known fields, each with a value that makes sense.

        Raises:
            ValueError: anything else. What is left out is never taken for allowed.
        """
        if not isinstance(value, dict) or set(value) != set(_FIELDS):
            raise ValueError(f"a rule is an object with exactly {', '.join(_FIELDS)}")
        return _checked(value)


_FIELDS: Final = tuple(field.name for field in fields(Rule))
_DEFAULTS: Final = Rule(host="", port=0, kind="https").to_json()


def is_reserved(name: str) -> bool:
    """Tell whether a canonical host name is one of ours, which no rule can open."""
    return name == RESERVED_SUFFIX or name.endswith("." + RESERVED_SUFFIX)


def default_credentials(inject: Sequence[str]) -> Credentials:
    """Return whose credentials may be sent where nothing is said: what is injected, else none."""
    return "injected" if inject else "none"


def long_form(entry: Any) -> dict[str, Any]:
    """Return an entry of a plan's `allow` as an object; older launches recorded `[host, port]`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(entry, Mapping):
        return dict(entry)
    if isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == len(("host", "port")):
        return {"host": entry[0], "port": entry[1]}
    raise ValueError("an allowed destination is an object, or host and port")


def rule_of_entry(entry: Any) -> Rule:
    """Read an entry of a plan's `allow`: host, port, and what is not as it is by default. Port 80 is plain HTTP.

    Raises:
        ValueError: a key is unknown or missing, or a value makes no sense.
    """
    given = long_form(entry)
    unknown = set(given) - (set(_FIELDS) - {"kind"})
    if unknown or not {"host", "port"} <= set(given):
        raise ValueError("an allowed destination has host and port, and beyond them only what a rule has")
    credentials = default_credentials(given.get("inject", ()))
    kind = "http" if given["port"] == HTTP_PORT else "https"
    return _checked({**_DEFAULTS, "credentials": credentials, **given, "kind": kind})


def ssh_rule(host: Any, port: Any) -> Rule:
    """Return the rule of a declared raw-TCP destination.

    Raises:
        ValueError: host or port makes no sense.
    """
    return _checked({**_DEFAULTS, "host": host, "port": port, "kind": "ssh-tcp"})


def _checked(value: Mapping[str, Any]) -> Rule:
    host, port, kind = value["host"], value["port"], value["kind"]
    if not isinstance(host, str) or kind not in get_args(Kind):
        raise ValueError(f"a rule has a host and one of the kinds {', '.join(get_args(Kind))}")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= MAX_PORT:
        raise ValueError(f"{host}: a port is a number from 1 to {MAX_PORT}")
    if kind != "ssh-tcp" and (kind == "http") is not (port == HTTP_PORT):
        raise ValueError(f"{host}: plain HTTP is spoken on port {HTTP_PORT}, and TLS on every other")
    for name, choices in (("scan", get_args(Scan)), ("credentials", get_args(Credentials))):
        if value[name] not in choices:
            raise ValueError(f"{host}: {name} is one of {', '.join(choices)}")
    for name in ("websocket", "bypass_tls"):
        if not isinstance(value[name], bool):
            raise ValueError(f"{host}: {name} is true or false")  # noqa: TRY004 - wrong data, as any other field
    rule = Rule(
        host=_pattern(host, kind),
        port=port,
        kind=cast("Kind", kind),
        methods=_methods(host, value["methods"]),
        paths=_globs(host, value["paths"]),
        scan=value["scan"],
        credentials=value["credentials"],
        websocket=value["websocket"],
        bypass_tls=value["bypass_tls"],
        inject=_injected(host, value["inject"]),
    )
    _check_together(rule)
    return rule


def _pattern(host: str, kind: str) -> str:
    wildcard = host.startswith("*.")
    name = normalise_host(host[2:] if wildcard else host)
    if is_reserved(name):
        raise ValueError(f"{host}: names under {RESERVED_SUFFIX} are answered by the launcher's own sidecars")
    if wildcard and kind == "ssh-tcp":
        raise ValueError(f"{host}: an ssh destination is one exact host")
    return f"*.{name}" if wildcard else name


def _texts(host: str, name: str, value: Any) -> set[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{host}: {name} is a list of texts")
    return set(value)


def _methods(host: str, value: Any) -> tuple[str, ...]:
    given = _texts(host, "methods", value)
    if unknown := given - set(METHODS):
        raise ValueError(f"{host}: {min(unknown)!a} is no method that a rule can allow")
    return tuple(method for method in METHODS if method in given)


def _globs(host: str, value: Any) -> tuple[str, ...]:
    given = sorted(_texts(host, "paths", value))
    for glob in given:
        if found := glob_problem(glob):
            raise ValueError(f"{host}: the path {glob!a} {found[0]}")
    return tuple(given)


def _injected(host: str, value: Any) -> tuple[str, ...]:
    given = sorted(_texts(host, "inject", value))
    if not all(map(_INJECTED.fullmatch, given)):
        raise ValueError(f"{host}: inject names what is injected, such as `header Authorization`, and no value")
    return tuple(given)


def _check_together(rule: Rule) -> None:
    """Refuse wishes that one destination cannot have at the same time."""
    if rule.kind == "ssh-tcp" and rule != Rule(rule.host, rule.port, rule.kind):
        raise ValueError(f"{rule.host}: an ssh destination has a host and a port, and no more")
    if rule.kind == "http" and (rule.inject or rule.bypass_tls):
        raise ValueError(f"{rule.host}: plain HTTP has no TLS to leave closed, and nothing is injected into it")
    if rule.bypass_tls and (rule.limited or rule.inject or rule.websocket):
        raise ValueError(f"{rule.host}: with bypass_tls nothing inside can be checked, limited or injected")
