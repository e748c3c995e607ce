"""Decides about one request, head first, then body: by its form, its rule, its credentials, known secrets, the guard.

It changes a request only where a secret is replaced by a marker.

Not its duty: when it is asked and what becomes of the answer (see `addon`), and the parts of the decision themselves
(see `verdict`, `credentials`, `known`, `scan`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from mitmproxy import http

from bottle_fsm.egress import content, verdict
from bottle_fsm.egress.credentials import credential_verdict, found_credentials, without_credentials
from bottle_fsm.egress.delivered import Delivered, DeliveredSecrets
from bottle_fsm.egress.gate import gate_answer
from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.inflate import ScanLimitError
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.refusals import CREDENTIAL_REFUSED, KNOWN_MASKED, KNOWN_REFUSED, SCAN_LIMIT, Outcome
from bottle_fsm.egress.request_parts import announced_length, strip_hop_headers, text_of_fields
from bottle_fsm.egress.rule import Rule
from bottle_fsm.egress.scan import Answer, ScanClient

_GATE_URL_LIMIT: Final = 4096
_LONG: Final = 64 * 1024
"""Bytes from which on a body is searched beside the loop, which goes on serving others."""
_Found = TypeVar("_Found")
_MARKER: Final = re.compile(rb"\[secret ([0-9A-Za-z_.-]+) removed by bottle-fsm\]")


class Judge:
    """Decides about the requests of one interceptor."""

    def __init__(self, policy: EgressPolicy, scans: ScanClient, secrets: DeliveredSecrets) -> None:
        self._policy = policy
        self._scans = scans
        self._secrets = secrets

    async def head(self, facts: verdict.Request, request: http.Request) -> Outcome:
        """Decide about a request's head. An allowed one has lost what concerns this hop alone."""
        delivered = self._secrets.get()
        if delivered is None:
            return Outcome(allow=False, status=403, reason="not_ready")
        decision = verdict.request_verdict(self._policy, facts)
        if not decision.allow:
            return Outcome.of(decision)
        if decision.rule == verdict.GATE_RULE:
            return await self._gate(delivered, request)
        rule = self.rule_of(request)
        if announced_length(request) > content.MAX_BODY and rule.scan == "block":
            return Outcome(allow=False, status=413, rule=rule.name, reason="body_too_large")
        request.host = normalise_host(request.host)
        refusal = _credential_problem(delivered, rule, request.host, request.headers, request.path)
        if refusal is not None:
            return refusal
        strip_hop_headers(request)
        return await self._head_secrets(delivered, rule, request)

    async def body(self, request: http.Request) -> Outcome:
        """Decide about a request's whole body and its trailers, after its head was allowed."""
        delivered, rule = self._secrets.get(), self.rule_of(request)
        if delivered is None:
            return Outcome(allow=False, status=403, rule=rule.name, reason="not_ready")
        refusal = _credential_problem(delivered, rule, request.host, request.trailers, "")
        if refusal is not None:
            return refusal
        try:
            data = content.decoded(request.raw_content or b"", request.headers.get_all("content-encoding"))
        except content.ContentError as error:
            return Outcome(allow=False, status=error.status, rule=rule.name, reason=error.reason)
        tail = text_of_fields(request.trailers).encode("latin-1") if request.trailers else b""
        if not data and not tail:
            return Outcome(allow=True, status=200, rule=rule.name)
        return await self._body_secrets(delivered, rule, request, data, tail)

    def rule_of(self, request: http.Request) -> Rule:
        """Return the rule of a request that has one.

        Raises:
            LookupError: it has none.
        """
        rule = self._policy.match(request.host, request.port)
        if rule is None:
            raise LookupError("a request without a rule")
        return rule

    # --- parts -----------------------------------------------------------------------------------------------------

    async def _gate(self, delivered: Delivered, request: http.Request) -> Outcome:
        """Answer at the gate host; a secret is no part of a question, for a guard may resolve the name asked about."""
        try:
            names = delivered.known.found(_head_bytes(request))
        except ScanLimitError:
            return _refusal(verdict.GATE_RULE, SCAN_LIMIT)
        target = request.path[:_GATE_URL_LIMIT]
        asked = [value for _, value in parse_qsl(target.partition("?")[2])]
        names = names.union(*map(delivered.known.found_in_host, asked))
        if names:
            return _refusal(verdict.GATE_RULE, KNOWN_REFUSED, names)
        status, body = await gate_answer(self._policy, self._scans, target, delivered.tokens.scan)
        return Outcome(allow=False, status=status, rule=verdict.GATE_RULE, reason="answered_here", body=body)

    async def _head_secrets(self, delivered: Delivered, rule: Rule, request: http.Request) -> Outcome:
        known, host, noted = delivered.known, request.host, frozenset[str]()
        in_host = known.refused(known.found_in_host(host), host)
        try:
            names = known.found(_head_bytes(request))
            refused = known.refused(names, host)
            if refused and not in_host and host == self._policy.model_host:
                _mask_head(delivered, request, refused)
                if not known.refused(known.found(_head_bytes(request)), host):
                    noted, refused = refused, frozenset()
        except ScanLimitError:
            return _refusal(rule.name, SCAN_LIMIT)
        if refused or in_host:
            return _refusal(rule.name, KNOWN_REFUSED, refused | in_host)
        return _noted(await self._ask_head(delivered, rule, request, names), noted)

    async def _ask_head(
        self, delivered: Delivered, rule: Rule, request: http.Request, granted: frozenset[str]
    ) -> Outcome:
        """Ask the guard about URL and headers; what may go to this host is masked before."""
        headers, path = request.headers, _path_bytes(request)
        if rule.credentials == "agent":
            fields, path = without_credentials(headers.fields, path)
            headers = http.Headers(fields)
        shown = _in_path(delivered.known.mask(path, granted)).decode("latin-1")
        url = f"{request.scheme}://{request.host}:{request.port}{shown}"
        answer = await self._scans.url(url, delivered.tokens.scan)
        if answer.allow:
            text = delivered.known.mask(text_of_fields(headers).encode("latin-1"), granted)
            answer = await self._scans.text(text.decode("latin-1"), delivered.tokens.scan)
        return _outcome(answer, rule.name, "guard_refused")

    async def _body_secrets(
        self, delivered: Delivered, rule: Rule, request: http.Request, data: bytes, tail: bytes
    ) -> Outcome:
        known, host, noted = delivered.known, request.host, frozenset[str]()
        try:
            names = await _aside(known.found, data) | known.found(tail)
            refused = known.refused(names, host)
            if refused and host == self._policy.model_host:
                masked = await _aside(known.mask, data, refused)
                left = await _aside(known.found, masked) | known.found(tail)
                if not known.refused(left, host):
                    request.headers.pop("content-encoding", None)
                    request.content = data = masked
                    noted, refused = refused, frozenset()
        except ScanLimitError:
            return _refusal(rule.name, SCAN_LIMIT)
        if refused:
            return _refusal(rule.name, KNOWN_REFUSED, refused)
        outcome = Outcome(allow=True, status=200, rule=rule.name)
        if rule.scan != "off":
            text = (await _aside(known.mask, data, names) + known.mask(tail, names)).decode("latin-1")
            answer = await self._scans.text(text, delivered.tokens.scan)
            outcome = _outcome(answer, rule.name, "guard_refused_body")
            if rule.scan == "warn" and outcome.status == 403:  # noqa: PLR2004 - found something; a failure is none
                outcome = replace(outcome, allow=True, status=200, reason="guard_warned")
        return _noted(outcome, noted)


def _credential_problem(
    delivered: Delivered, rule: Rule, host: str, headers: http.Headers | None, path: str
) -> Outcome | None:
    """Refuse a head, or trailers, with a credential that nobody granted for this host.

    What is found is the credential's place, and the names of the known secrets in it, so that a log tells a leak from a
    client that is only logged in.
    """
    known = delivered.known

    def granted(text: bytes) -> bool:
        names = known.found(text)
        return bool(names - known.refused(names, host))

    found = found_credentials(headers.fields if headers else (), path)
    placeholders = delivered.placeholders(rule.name)
    try:
        place = credential_verdict(rule.credentials, found, granted=granted, placeholders=placeholders)
        if not place:
            return None
        names = known.refused(known.found(b"\n".join(one.value for one in found)), host)
    except ScanLimitError:
        return _refusal(rule.name, SCAN_LIMIT)
    return replace(_refusal(rule.name, CREDENTIAL_REFUSED), findings=(place, *sorted(names)))


def _refusal(rule: str, reason: str, names: frozenset[str] = frozenset()) -> Outcome:
    return Outcome(allow=False, status=403, rule=rule, reason=reason, findings=tuple(sorted(names)))


def _path_bytes(request: http.Request) -> bytes:
    return bytes(request.data.path)


def _head_bytes(request: http.Request) -> bytes:
    line = bytes(request.data.method) + b" " + _path_bytes(request)
    return line + b"\n" + text_of_fields(request.headers).encode("latin-1")


def _mask_head(delivered: Delivered, request: http.Request, names: frozenset[str]) -> None:
    mask = delivered.known.mask
    request.data.path = _in_path(mask(_path_bytes(request), names))
    request.headers = http.Headers([(name, mask(value, names)) for name, value in request.headers.fields])


def _in_path(path: bytes) -> bytes:
    """Write the markers in a path as a URL can hold them."""
    return _MARKER.sub(rb"secret-\1-removed", path)


async def _aside(work: Callable[..., _Found], data: bytes, *more: Any) -> _Found:
    """Run a search, in a thread of its own when it may take long."""
    if len(data) < _LONG:
        return work(data, *more)
    return await asyncio.to_thread(work, data, *more)


def _noted(outcome: Outcome, names: frozenset[str]) -> Outcome:
    """Add to an allowed outcome which secrets were masked."""
    if not outcome.allow or not names:
        return outcome
    return replace(outcome, reason=KNOWN_MASKED, findings=(*outcome.findings, *sorted(names)))


def _outcome(answer: Answer, rule: str, reason: str) -> Outcome:
    if answer.failure:
        return Outcome(allow=False, status=502, rule=rule, reason=answer.failure, by="guard")
    if not answer.allow:
        return Outcome(allow=False, status=403, rule=rule, reason=reason, by="guard", findings=answer.rules)
    return Outcome(allow=True, status=200, rule=rule, by="guard")
