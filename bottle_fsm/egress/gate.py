"""What the interceptor answers itself at the gate host: that it is there, and what it would decide about a destination.

The trust gate and the egress self-test ask here; nothing is ever sent upstream for it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from bottle_fsm.egress.hosts import normalise_host, parse_port
from bottle_fsm.egress.policy import EgressPolicy, Rule
from bottle_fsm.egress.scan import ScanClient


async def gate_answer(policy: EgressPolicy, guard: ScanClient, target: str, token: str) -> tuple[int, dict[str, Any]]:
    """Return status and body of the answer to a request for `target` (path and query) at the gate host."""
    parts = urlsplit(target)
    if parts.path == "/":
        return 200, {"gate": "ok", "launch": policy.launch, "policy": policy.digest()}
    if parts.path != "/verdict":
        return 404, {"error": "not_found"}
    asked = parse_qs(parts.query, keep_blank_values=True)
    try:
        (host,), (port,) = asked["host"], asked["port"]
        number = parse_port(port)
    except (KeyError, ValueError):
        return 400, {"error": "verdict needs exactly one host and one port"}
    return 200, await _verdict(policy, guard, (host, number), token)


async def _verdict(policy: EgressPolicy, guard: ScanClient, where: tuple[str, int], token: str) -> dict[str, Any]:
    rule = policy.match(*where)
    asked = {"host": where[0], "port": where[1]}
    if rule is None:
        return asked | {"decision": "deny", "rule": "", "by": "interceptor", "reason": "not_listed"}
    answer = await guard.url(probe_url(rule, *where), token)
    decided = {"decision": "allow" if answer.allow else "deny", "rule": rule.name, "by": "guard"}
    reason = answer.failure or ("" if answer.allow else "guard_refused")
    return asked | decided | {"reason": reason, "findings": list(answer.rules)}


def probe_url(rule: Rule, host: str, port: int) -> str:
    """Return the URL that stands for a destination when the guard is asked about it."""
    scheme = "http" if rule.kind == "http" else "https"
    return f"{scheme}://{normalise_host(host)}:{port}/"
