"""All decisions of the interceptor as functions over plain data. Standard library only; no I/O, no mitmproxy types.

Allowing is always explicit: a function returns a refusal unless every check was passed. Not its duty: asking the guard
(see `scan`), or doing anything about a decision (see `addon`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bottle_fsm.egress import paths
from bottle_fsm.egress.hosts import normalise_host, split_authority
from bottle_fsm.egress.policy import HTTP_PORT, HTTPS_PORT, EgressPolicy, Kind, Rule

GATE_RULE: Final = "gate"
_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z-]*")
_BREAKING_PATH: Final = re.compile(r"[\x00-\x20\x7f]")
_BREAKING_VALUE: Final = re.compile(rb"[\x00\r\n]")
_METHODS_REFUSED: Final = frozenset({"TRACE", "TRACK", "CONNECT", "PRI"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided: allowed or not, by which rule, and why not (a stable word, never a value of the request)."""

    allow: bool
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head as the decision needs it.

    Attributes:
        scheme, host, port: where the proxy would send it.
        connect: target of the tunnel that the request came through; None when it came straight to the proxy.
        tls: whether the agent's side of the connection is TLS; sni: the server name of that TLS handshake.
        authority: the request target's authority: of absolute-form, or HTTP/2's `:authority`; empty when absent.
        hosts: the value of every Host header, in order.
        method, path: as received, the path with its query. http2: whether it came by HTTP/2.
        values: the value of every header; HTTP/2 can carry line breaks, which HTTP/1 would take for new headers.
        names: the name of every header.
    """

    scheme: str
    host: str
    port: int
    connect: tuple[str, int] | None
    tls: bool
    sni: str | None
    authority: str
    hosts: tuple[str, ...]
    method: str
    path: str
    http2: bool = False
    values: tuple[bytes, ...] = ()
    names: tuple[bytes, ...] = ()


def connect_verdict(policy: EgressPolicy, host: str, port: int, *, tls_to_proxy: bool = False) -> Decision:
    """Decide about a CONNECT to the proxy: a listed host and port, spoken to without TLS on the way to the proxy."""
    if tls_to_proxy:
        return Decision(allow=False, reason="tls_to_proxy")
    if _is_gate(policy, host) and port == HTTPS_PORT:
        return Decision(allow=True, rule=GATE_RULE)
    return _rule_verdict(policy, host, port, ("https", "http"))


def relay_verdict(policy: EgressPolicy, host: str, port: int) -> Decision:
    """Decide about a CONNECT to the relay: exactly the declared raw-TCP destinations."""
    return _rule_verdict(policy, host, port, ("ssh-tcp",))


def tls_verdict(policy: EgressPolicy, connect: tuple[str, int] | None, sni: str | None) -> Decision:
    """Decide about a TLS ClientHello: only inside a tunnel, to a TLS rule, for the very name of the tunnel."""
    if connect is None:
        return Decision(allow=False, reason="tls_to_proxy")
    if sni is None:
        return Decision(allow=False, reason="sni_missing")
    if not _same_host(sni, connect[0]):
        return Decision(allow=False, reason="sni_mismatch")
    if _is_gate(policy, connect[0]) and connect[1] == HTTPS_PORT:
        return Decision(allow=True, rule=GATE_RULE)
    return _rule_verdict(policy, *connect, ("https",))


def request_verdict(policy: EgressPolicy, request: Request) -> Decision:
    """Decide about a request's head, before anything is asked of the guard or sent."""
    reason = _form_problem(request) or _identity_problem(request)
    if reason:
        return Decision(allow=False, reason=reason)
    if _is_gate(policy, request.host):
        return _gate_verdict(request)
    kinds: tuple[Kind, ...] = ("https",) if request.tls else ("http",)
    found = _rule_for(policy, request.host, request.port, kinds)
    if isinstance(found, Decision):
        return found
    reason = _limit_problem(found, request.method, request.path, request.names)
    return Decision(allow=not reason, rule=found.name, reason=reason)


def asked_verdict(rule: Rule, method: str, target: str) -> Decision:
    """Decide about method and path of a request that is only asked about, by a rule that its host and port have."""
    if rule.kind == "ssh-tcp":
        return Decision(allow=False, rule=rule.name, reason="protocol_not_allowed")
    reason = _line_problem(method, target) or _limit_problem(rule, method, target, ())
    return Decision(allow=not reason, rule=rule.name, reason=reason)


def _rule_verdict(policy: EgressPolicy, host: str, port: int, kinds: tuple[Kind, ...]) -> Decision:
    found = _rule_for(policy, host, port, kinds)
    return found if isinstance(found, Decision) else Decision(allow=True, rule=found.name)


def _rule_for(policy: EgressPolicy, host: str, port: int, kinds: tuple[Kind, ...]) -> Rule | Decision:
    """Return the rule that a destination has, or the refusal of one that has none for what is spoken."""
    try:
        normalise_host(host)
    except ValueError:
        return Decision(allow=False, reason="host_not_a_name")
    rule = policy.match(host, port)
    if rule is None:
        return Decision(allow=False, reason="not_listed")
    if rule.kind not in kinds:
        return Decision(allow=False, rule=rule.name, reason="protocol_not_allowed")
    return rule


def _gate_verdict(request: Request) -> Decision:
    if not request.tls or request.port != HTTPS_PORT:
        return Decision(allow=False, rule=GATE_RULE, reason="gate_needs_tls")
    if request.method not in {"GET", "HEAD"}:
        return Decision(allow=False, rule=GATE_RULE, reason="method_refused")
    return Decision(allow=True, rule=GATE_RULE)


def _limit_problem(rule: Rule, method: str, target: str, names: tuple[bytes, ...]) -> str:
    """Name what a rule's methods and paths have against a request, or return an empty text.

    Where either is limited, a request that is unclear about one of them is refused, before it is compared.
    """
    if not rule.limited:
        return ""
    path = paths.path_of(target)
    checks = (
        (paths.asks_for_another_method(target, names), "method_override"),
        (bool(rule.methods) and method not in rule.methods, "method_not_allowed"),
        (paths.unclear(path) or paths.asks_for_another_path(names), "path_ambiguous"),
        (bool(rule.paths) and not paths.allowed(rule.paths, path), "path_not_allowed"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _line_problem(method: str, target: str) -> str:
    """Name what is wrong with a request's first line, or return an empty text."""
    checks = (
        (not _METHOD.fullmatch(method) or method.upper() in _METHODS_REFUSED, "method_refused"),
        (not target.startswith("/"), "target_form_refused"),
        (bool(_BREAKING_PATH.search(target)), "target_malformed"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _form_problem(request: Request) -> str:
    """Name what is wrong with the request's form, or return an empty text."""
    in_tunnel = request.connect is not None
    line = _line_problem(request.method, request.path)
    checks = (
        (bool(line), line),
        (any(_BREAKING_VALUE.search(value) for value in request.values), "header_malformed"),
        (not in_tunnel and request.tls, "tls_to_proxy"),
        (in_tunnel and bool(request.authority) and not request.http2, "absolute_form_in_tunnel"),
        (request.scheme != ("https" if request.tls else "http"), "scheme_mismatch"),
        (not request.tls and request.port != HTTP_PORT, "plain_http_port"),
        (len(request.hosts) > 1, "host_header_repeated"),
        (not request.hosts and not request.authority, "host_header_missing"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _identity_problem(request: Request) -> str:
    """Name where CONNECT target, SNI, authority and Host disagree, or return an empty text."""
    default_port = HTTPS_PORT if request.tls else HTTP_PORT
    try:
        target = (normalise_host(request.host), request.port)
        named = {split_authority(name, default_port) for name in (*request.hosts, request.authority) if name}
    except ValueError:
        return "host_not_a_name"
    if named != {target}:
        return "host_mismatch"
    if request.connect is not None and not (
        _same_host(request.connect[0], target[0]) and request.connect[1] == target[1]
    ):
        return "connect_mismatch"
    if request.tls and not (request.sni and _same_host(request.sni, target[0])):
        return "sni_mismatch"
    return ""


def _same_host(first: str, second: str) -> bool:
    try:
        return normalise_host(first) == normalise_host(second)
    except ValueError:
        return False


def _is_gate(policy: EgressPolicy, host: str) -> bool:
    return _same_host(host, policy.gate_host)
