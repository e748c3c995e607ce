"""The shim in mitmproxy: each deciding hook sets the refusal first and clears it only when everything allowed.

An exception anywhere therefore leaves the refusal. Not its duty: what is allowed (see `verdict` and the guard).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from mitmproxy import http, tls
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from bottle_fsm.egress import refusals, verdict
from bottle_fsm.egress.answers import put_in, replace_answer, scrub_trailers, stream_answer
from bottle_fsm.egress.bounded_http import UNDECIDED, BodyBudget
from bottle_fsm.egress.closed_doors import ClosedDoors
from bottle_fsm.egress.delivered import Delivered, DeliveredSecrets
from bottle_fsm.egress.doors import Clearances
from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.judge import Judge
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.refusals import ANSWER_ENCODED, DecisionLog, Outcome, after
from bottle_fsm.egress.request_parts import frame_body
from bottle_fsm.egress.scan import ScanClient
from bottle_fsm.egress.settings import Address
from bottle_fsm.egress.verdict import Decision

_NO_UPSTREAM: Final = "refused: not the guard"


@dataclass(frozen=True, slots=True)
class Egress:
    """What the addon works with: the policy, the guard and its address, the delivered secrets, the log."""

    policy: EgressPolicy
    guard: Address
    scans: ScanClient
    secrets: DeliveredSecrets
    log: DecisionLog


class EgressAddon(ClosedDoors):
    """Decides about everything that passes the interceptor."""

    name = "bottleegress"

    def __init__(self, egress: Egress, clearances: Clearances, budget: BodyBudget) -> None:
        self._egress = egress
        self._clear = clearances
        self._budget = budget
        self._judge = Judge(egress.policy, egress.scans, egress.secrets)

    # --- the tunnel and its TLS ------------------------------------------------------------------------------------

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Decide about a CONNECT."""
        flow.response = refusals.undecided(flow.request)
        flow.metadata[refusals.STARTED] = time.monotonic()
        client, request = flow.client_conn, flow.request
        self._clear.forget(client.id)
        decision = self._ready() or verdict.connect_verdict(
            self._egress.policy, request.host, request.port, tls_to_proxy=client.tls_established
        )
        outcome = Outcome.of(decision)
        if not decision.allow:
            self._egress.log.write(flow, outcome)
            flow.response = outcome.response(request)
            return
        host = normalise_host(request.host)
        rule = self._egress.policy.match(host, request.port)
        self._clear.tunnels[client.id] = (host, request.port, rule is None or rule.kind == "https")
        flow.response = None

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Decide about a TLS handshake of the agent; without clearance `ClearedTls` gives it no context."""
        client = data.context.client
        self._clear.tls.discard(client.id)
        data.ignore_connection = False
        target = self._clear.target(client.id)
        decision = verdict.tls_verdict(self._egress.policy, target, data.client_hello.sni)
        if decision.allow:
            self._clear.tls.add(client.id)
        else:
            self._egress.log.tls_refused(target, decision)

    def client_disconnected(self, client: Client) -> None:
        """Forget what was cleared on a connection that has ended."""
        self._clear.forget(client.id)
        self._budget.drop(client.id)

    # --- the request -----------------------------------------------------------------------------------------------

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Decide about a request's head: form, host, then the guard about URL and headers. The body comes after."""
        flow.response = refusals.undecided(flow.request)
        flow.metadata.pop(UNDECIDED, None)
        flow.metadata[refusals.STARTED] = time.monotonic()
        malformed = Outcome(allow=False, status=400, reason="malformed_request")
        outcome = malformed if flow.error is not None else await self._judge.head(self._facts(flow), flow.request)
        if outcome.allow:
            flow.metadata[UNDECIDED] = outcome
            return
        flow.request.headers.pop("expect", None)
        flow.response = outcome.response(flow.request)
        self._egress.log.write(flow, outcome)

    async def request(self, flow: http.HTTPFlow) -> None:
        """Decide about the whole request; only here a refusal is ever taken back."""
        head = flow.metadata.get(UNDECIDED)
        if flow.response is None:
            flow.response = refusals.undecided(flow.request)
        if head is None:
            return
        outcome = after(head, await self._judge.body(flow.request))
        if not outcome.allow:
            self._egress.log.write(flow, outcome)
            flow.response = outcome.response(flow.request)
            return
        injected = self._inject(flow, outcome.rule)
        self._send_by_guard(flow)
        self._egress.log.write(flow, outcome, injected=injected)
        flow.response = None

    # --- the answer ------------------------------------------------------------------------------------------------

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Stream every response, so that its size costs no memory; injected values are taken out of it on the way."""
        before, flow.error = flow.error, refusals.killed()
        if flow.response is not None and not stream_answer(flow):
            outcome = Outcome(allow=False, status=502, rule=_rule(flow.metadata.get(UNDECIDED)), reason=ANSWER_ENCODED)
            self._egress.log.write(flow, outcome)
            replace_answer(flow, outcome.response(flow.request))
        flow.error = before

    def response(self, flow: http.HTTPFlow) -> None:
        """Take injected values out of what follows the body of an answer."""
        before, flow.error = flow.error, refusals.killed()
        scrub_trailers(flow)
        flow.error = before

    def _inject(self, flow: http.HTTPFlow, rule: str) -> tuple[str, ...]:
        """Put in what the rule says, after everything was scanned; return the names of what was put in."""
        injections = self._delivered().injections.get(rule, ())
        put_in(flow, injections)
        return tuple(f"{one.kind} {one.name or 'Authorization'}" for one in injections)

    def _facts(self, flow: http.HTTPFlow) -> verdict.Request:
        request, client = flow.request, flow.client_conn
        return verdict.Request(
            scheme=request.scheme,
            host=request.host,
            port=request.port,
            connect=self._clear.target(client.id),
            tls=client.tls_established,
            sni=client.sni if client.id in self._clear.tls else None,
            authority=request.authority,
            hosts=tuple(request.headers.get_all("host")),
            method=request.data.method.decode("latin-1"),  # as it is sent: `request.method` is in capitals
            path=request.path,
            http2=request.is_http2,
            values=tuple(value for _, value in request.headers.fields),
            names=tuple(name for name, _ in request.headers.fields),
        )

    def _ready(self) -> Decision | None:
        return None if self._egress.secrets.get() else Decision(allow=False, reason="not_ready")

    def _delivered(self) -> Delivered:
        delivered = self._egress.secrets.get()
        if delivered is None:
            raise RuntimeError("asked for secrets before they were delivered")
        return delivered

    # --- the way out -----------------------------------------------------------------------------------------------

    def _send_by_guard(self, flow: http.HTTPFlow) -> None:
        request = flow.request
        frame_body(request)
        server = Server(address=(request.host, request.port))
        server.via = ("http", (self._egress.guard.host, self._egress.guard.port))
        flow.server_conn = server

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Let no connection be made but to the guard."""
        data.server.error = _NO_UPSTREAM
        if data.server.address == (self._egress.guard.host, self._egress.guard.port):
            self._clear.upstream.add(data.server.id)
            data.server.error = None

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """Forget a connection to the guard that has ended."""
        self._clear.upstream.discard(data.server.id)

    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        """Give the guard its token, on connections that were cleared only; without it the guard refuses."""
        flow.request.headers.pop("proxy-authorization", None)
        if flow.server_conn.id in self._clear.upstream:
            flow.request.headers["Proxy-Authorization"] = f"Bearer {self._delivered().tokens.proxy}"

    # --- what the bounded HTTP layer has to refuse -----------------------------------------------------------------

    def undecided(self, flow: http.HTTPFlow) -> http.Response:
        """Return the answer when deciding itself failed."""
        return refusals.undecided(flow.request)

    def body_too_large(self, flow: http.HTTPFlow) -> http.Response:
        """Return and record the answer to a body above the limit."""
        outcome = Outcome(
            allow=False, status=413, rule=_rule(flow.metadata.pop(UNDECIDED, None)), reason="body_too_large"
        )
        self._egress.log.write(flow, outcome)
        return outcome.response(flow.request)

    def upstream_failed(self, flow: http.HTTPFlow, message: str) -> http.Response:
        """Return and record the answer when the guard let no connection be made."""
        refused = "refused HTTP CONNECT request: 403" in message
        rule = _rule(flow.metadata.get(UNDECIDED))
        reason = "guard_refused_tunnel" if refused else "upstream_unreachable"
        outcome = Outcome(allow=False, status=403 if refused else 502, rule=rule, reason=reason, by="guard")
        self._egress.log.write(flow, outcome)
        return outcome.response(flow.request)


def _rule(head: Outcome | None) -> str:
    return head.rule if head is not None else ""
