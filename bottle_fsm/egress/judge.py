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

from mitmproxy import http

from bottle_fsm.egress import content, verdict
from bottle_fsm.egress.credentials import credential_verdict, found_credentials
from bottle_fsm.egress.delivered import Delivered, DeliveredSecrets
from bottle_fsm.egress.gate import gate_answer
from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.inflate import ScanLimitError
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.refusals import CREDENTIAL_REFUSED, Outcome
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
            target = request.path[:_GATE_URL_LIMIT]
            status, body = await gate_answer(self._policy, self._scans, target, delivered.tokens.scan)
            return Outcome(allow=False, status=status, rule=verdict.GATE_RULE, reason="answered_here", body=body)
        rule = self.rule_of(request)
        if announced_length(request) > content.MAX_BODY and rule.scan == "block":
            return Outcome(allow=False, status=413, rule=rule.name, reason="body_too_large")
        request.host = normalise_host(request.host)
        refusal = self._credentials(delivered, rule, request)
        if refusal is not None:
            return refusal
        strip_hop_headers(request)
        return await self._head_secrets(delivered, rule, request)

    async def body(self, request: http.Request) -> Outcome:
        """Decide about a request's whole body and its trailers, after its head was allowed."""
        delivered, rule = self._secrets.get(), self.rule_of(request)
        if delivered is None:
            return Outcome(allow=False, status=403, rule=rule.name, reason="not_ready")
        trailers = request.trailers.fields if request.trailers else ()
        place = _refused_credential(delivered, rule, request.host, trailers, "")
        if place:
            return Outcome(allow=False, status=403, rule=rule.name, reason=CREDENTIAL_REFUSED, findings=(place,))
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

    def _credentials(self, delivered: Delivered, rule: Rule, request: http.Request) -> Outcome | None:
        try:
            place = _refused_credential(delivered, rule, request.host, request.headers.fields, request.path)
        except ScanLimitError:
            place = "too much to look through"
        if not place:
            return None
        return Outcome(allow=False, status=403, rule=rule.name, reason=CREDENTIAL_REFUSED, findings=(place,))

    async def _head_secrets(self, delivered: Delivered, rule: Rule, request: http.Request) -> Outcome:
        known, host = delivered.known, request.host
        try:
            names = known.found(_head_bytes(request))
        except ScanLimitError:
            return Outcome(allow=False, status=403, rule=rule.name, reason="scan_limit")
        in_host = known.refused(known.found_in_host(host), host)
        refused = known.refused(names, host)
        if refused and not in_host and host == self._policy.model_host:
            _mask_head(delivered, request, refused)
            left = known.refused(known.found(_head_bytes(request)), host)
            if not left:
                outcome = await self._ask_head(delivered, rule, request, names - refused)
                return _noted(outcome, "secret_masked", refused)
        if refused or in_host:
            findings = tuple(sorted(refused | in_host))
            return Outcome(allow=False, status=403, rule=rule.name, reason="known_secret", findings=findings)
        return await self._ask_head(delivered, rule, request, names)

    async def _ask_head(
        self, delivered: Delivered, rule: Rule, request: http.Request, granted: frozenset[str]
    ) -> Outcome:
        """Ask the guard about URL and headers; what may go to this host is masked before."""
        path = _in_path(delivered.known.mask(_path_bytes(request), granted)).decode("latin-1")
        url = f"{request.scheme}://{request.host}:{request.port}{path}"
        answer = await self._scans.url(url, delivered.tokens.scan)
        if answer.allow:
            text = delivered.known.mask(text_of_fields(request.headers).encode("latin-1"), granted)
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
            return Outcome(allow=False, status=403, rule=rule.name, reason="scan_limit")
        if refused:
            findings = tuple(sorted(refused))
            return Outcome(allow=False, status=403, rule=rule.name, reason="known_secret", findings=findings)
        outcome = Outcome(allow=True, status=200, rule=rule.name)
        if rule.scan != "off":
            text = (await _aside(known.mask, data, names) + known.mask(tail, names)).decode("latin-1")
            answer = await self._scans.text(text, delivered.tokens.scan)
            outcome = _outcome(answer, rule.name, "guard_refused_body")
            if rule.scan == "warn" and outcome.status == 403:  # noqa: PLR2004 - found something; a failure is none
                outcome = replace(outcome, allow=True, status=200, reason="guard_warned")
        return _noted(outcome, "secret_masked", noted)


def _refused_credential(
    delivered: Delivered, rule: Rule, host: str, fields: tuple[tuple[bytes, bytes], ...], path: str
) -> str:
    """Return the place of a credential that nobody granted for this host, or an empty text."""

    def granted(text: bytes) -> bool:
        names = delivered.known.found(text)
        return bool(names - delivered.known.refused(names, host))

    found = found_credentials(fields, path)
    return credential_verdict(rule.credentials, found, granted=granted, placeholders=delivered.placeholders(rule.name))


def _path_bytes(request: http.Request) -> bytes:
    return bytes(request.data.path)


def _head_bytes(request: http.Request) -> bytes:
    return _path_bytes(request) + b"\n" + text_of_fields(request.headers).encode("latin-1")


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


def _noted(outcome: Outcome, reason: str, names: frozenset[str]) -> Outcome:
    """Add to an allowed outcome what was done about secrets."""
    if not outcome.allow or not names:
        return outcome
    return replace(outcome, reason=reason, findings=(*outcome.findings, *sorted(names)))


def _outcome(answer: Answer, rule: str, reason: str) -> Outcome:
    if answer.failure:
        return Outcome(allow=False, status=502, rule=rule, reason=answer.failure, by="guard")
    if not answer.allow:
        return Outcome(allow=False, status=403, rule=rule, reason=reason, by="guard", findings=answer.rules)
    return Outcome(allow=True, status=200, rule=rule, by="guard")
