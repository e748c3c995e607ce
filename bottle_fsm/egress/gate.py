"""What the interceptor answers itself at the gate host: that it is there, and what it would decide about a request.

The trust gate and the egress self-test ask here; nothing is ever sent upstream for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from bottle_fsm.egress.hosts import normalise_host, parse_port
from bottle_fsm.egress.policy import EgressPolicy, Rule
from bottle_fsm.egress.scan import ScanClient
from bottle_fsm.egress.verdict import asked_verdict

_USAGE: Final = "verdict needs exactly one host and one port, and takes one method and one path"


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked about; method and path are None when the rule itself shall choose what it allows."""

    host: str
    port: int
    method: str | None
    path: str | None

    @classmethod
    def of(cls, query: str) -> _Question:
        asked = parse_qs(query, keep_blank_values=True)
        (host,), (port,) = asked["host"], asked["port"]
        (method,), (path,) = asked.get("method", [None]), asked.get("path", [None])
        return cls(host, parse_port(port), method, path)


async def gate_answer(policy: EgressPolicy, guard: ScanClient, target: str, token: str) -> tuple[int, dict[str, Any]]:
    """Return status and body of the answer to a request for `target` (path and query) at the gate host."""
    parts = urlsplit(target)
    if parts.path == "/":
        return 200, {"gate": "ok", "launch": policy.launch, "policy": policy.digest()}
    if parts.path != "/verdict":
        return 404, {"error": "not_found"}
    try:
        question = _Question.of(parts.query)
    except (KeyError, ValueError):
        return 400, {"error": _USAGE}
    return 200, await _verdict(policy, guard, question, token)


async def _verdict(policy: EgressPolicy, guard: ScanClient, question: _Question, token: str) -> dict[str, Any]:
    host, port = question.host, question.port
    rule = policy.match(host, port)
    asked: dict[str, Any] = {"host": host, "port": port}
    if rule is None:
        return asked | {"decision": "deny", "rule": "", "by": "interceptor", "reason": "not_listed"}
    path = "/"
    if rule.kind != "ssh-tcp" or question.method is not None or question.path is not None:
        _, method, example = rule.example()
        method = method if question.method is None else question.method
        path = example if question.path is None else question.path
        asked |= {"method": method, "path": path}
        decision = asked_verdict(rule, method, path)
        if not decision.allow:
            return asked | {"decision": "deny", "rule": rule.name, "by": "interceptor", "reason": decision.reason}
    answer = await guard.url(probe_url(rule, host, port, path), token)
    decided = {"decision": "allow" if answer.allow else "deny", "rule": rule.name, "by": "guard"}
    reason = answer.failure or ("" if answer.allow else "guard_refused")
    return asked | decided | {"reason": reason, "findings": list(answer.rules)}


def probe_url(rule: Rule, host: str, port: int, path: str = "/") -> str:
    """Return the URL that stands for a request when the guard is asked about it."""
    scheme = "http" if rule.kind == "http" else "https"
    return f"{scheme}://{normalise_host(host)}:{port}{path}"
