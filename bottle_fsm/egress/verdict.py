"""All decisions of the interceptor as functions over plain data. Standard library only; no I/O, no mitmproxy types.

Allowing is always explicit: a function returns a refusal unless every check was passed. Not its duty: asking the guard
(see `scan`), or doing anything about a decision (see `addon`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bottle_fsm.egress.hosts import normalise_host, split_authority
from bottle_fsm.egress.policy import HTTP_PORT, HTTPS_PORT, EgressPolicy, Kind

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
        method, path: as received. http2: whether it came by HTTP/2.
        values: the value of every header; HTTP/2 can carry line breaks, which HTTP/1 would take for new headers.
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
    return _rule_verdict(policy, request.host, request.port, ("https",) if request.tls else ("http",))


def _rule_verdict(policy: EgressPolicy, host: str, port: int, kinds: tuple[Kind, ...]) -> Decision:
    try:
        normalise_host(host)
    except ValueError:
        return Decision(allow=False, reason="host_not_a_name")
    rule = policy.match(host, port)
    if rule is None:
        return Decision(allow=False, reason="not_listed")
    if rule.kind not in kinds:
        return Decision(allow=False, rule=rule.name, reason="protocol_not_allowed")
    return Decision(allow=True, rule=rule.name)


def _gate_verdict(request: Request) -> Decision:
    if not request.tls or request.port != HTTPS_PORT:
        return Decision(allow=False, rule=GATE_RULE, reason="gate_needs_tls")
    if request.method not in {"GET", "HEAD"}:
        return Decision(allow=False, rule=GATE_RULE, reason="method_refused")
    return Decision(allow=True, rule=GATE_RULE)


def _form_problem(request: Request) -> str:
    """Name what is wrong with the request's form, or return an empty text."""
    in_tunnel = request.connect is not None
    checks = (
        (not _METHOD.fullmatch(request.method) or request.method.upper() in _METHODS_REFUSED, "method_refused"),
        (not request.path.startswith("/"), "target_form_refused"),
        (bool(_BREAKING_PATH.search(request.path)), "target_malformed"),
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
