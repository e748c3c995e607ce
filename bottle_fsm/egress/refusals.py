"""What a decision looks like: the answer to the agent, and the line in the decision log. Neither holds a secret."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mitmproxy import http
from mitmproxy.flow import Error

from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.verdict import Decision

CREDENTIAL_REFUSED: Final = "credential_refused"
KNOWN_REFUSED: Final = "known_secret"
KNOWN_MASKED: Final = "secret_masked"
ANSWER_ENCODED: Final = "answer_encoded"
"""An answer that came compressed although a plain one was asked for: injected values could not be taken out of it."""
SCAN_LIMIT: Final = "scan_limit"
"""There is more to look through than the search is given; what is in it is not known."""
STARTED: Final = "bottle.started"
"""Mark of a flow: when its head came, for the duration in the log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision with everything that its answer and its log line need.

    Attributes:
        allow: whether the request goes on. status: of the answer when it does not.
        rule, reason: as in `Decision`. by: who decided. findings: names of the guard's rules.
        body: the answer itself when the interceptor answers in place of a server.
    """

    allow: bool
    status: int
    rule: str = ""
    reason: str = ""
    by: str = "interceptor"
    findings: tuple[str, ...] = ()
    body: dict[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """Return the outcome of a decision that the interceptor made alone."""
        return cls(
            allow=decision.allow, status=200 if decision.allow else 403, rule=decision.rule, reason=decision.reason
        )

    @property
    def action(self) -> str:
        """Return the word for the log: allow, deny, answer or error."""
        if self.allow:
            return "allow"
        if self.body is not None:
            return "answer"
        return "error" if self.status >= 500 else "deny"  # noqa: PLR2004 - 5xx: nobody decided

    def response(self, request: http.Request) -> http.Response:
        """Return the answer to the agent's request."""
        refused = {
            "error": "egress_refused",
            "host": request.host[:255],
            "rule": self.rule,
            "reason": self.reason,
            "by": self.by,
            "findings": list(self.findings),
        }
        return json_response(request, self.status, self.body if self.body is not None else refused)


def after(head: Outcome, body: Outcome) -> Outcome:
    """Return the outcome of a whole request: the body's, with what was noted about an allowed head."""
    if not body.allow or not head.findings:
        return body
    return replace(body, reason=body.reason or head.reason, findings=(*head.findings, *body.findings))


class DecisionLog:
    """Writes one line per decision."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines

    def write(self, flow: http.HTTPFlow, outcome: Outcome, *, injected: tuple[str, ...] = ()) -> None:
        """Record a decision about a request or a CONNECT; `injected` names what was put in, never a value."""
        request = flow.request
        started = flow.metadata.get(STARTED)
        # A path in which a secret was found is not repeated; a credential's place is a name, and not in the path.
        hidden = outcome.findings and outcome.reason != CREDENTIAL_REFUSED
        path = "" if hidden else request.path.split("?", 1)[0].split("#", 1)[0]
        self._lines.write(
            "decision",
            host=request.host,
            port=request.port,
            method=request.method,
            path=path,
            rule=outcome.rule,
            action=outcome.action,
            reason=outcome.reason,
            by=outcome.by,
            findings=list(outcome.findings),
            injected=list(injected),
            status=outcome.status,
            bytes=len(request.raw_content or b""),
            ms=round((time.monotonic() - started) * 1000, 3) if started else 0.0,
        )

    def tls_refused(self, target: tuple[str, int] | None, decision: Decision) -> None:
        """Record a refused TLS handshake; the name that the client asked for is not repeated."""
        host, port = target or ("", 0)
        self._lines.write(
            "decision", host=host, port=port, method="TLS", rule=decision.rule, action="deny", reason=decision.reason
        )


def undecided(request: http.Request) -> http.Response:
    """Return the refusal that stands until a decision is made; the agent sees it when deciding failed."""
    return json_response(request, 403, {"error": "egress_refused", "reason": "internal_error"})


def killed() -> Error:
    """Return the error that ends a flow without an answer; it stands until what is to be passed on is ready."""
    return Error(Error.KILLED_MESSAGE)


def json_response(request: http.Request, status: int, value: dict[str, Any]) -> http.Response:
    """Return a JSON response; to HEAD one without a body, which would be taken for the next answer."""
    body = b"" if request.method.upper() == "HEAD" else json.dumps(value).encode()
    return http.Response.make(status, body, {"Content-Type": "application/json"})
