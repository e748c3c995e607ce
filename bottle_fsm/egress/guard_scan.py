"""The guard's scan API: `POST /api/v1/scan` answers allow or deny about a URL or a text; nothing is forwarded.

Same envelope, errors and limits as pipelock's. Messages carry names of rules, never values. Not its duty: finding
secrets (see `detectors`), or the tunnel (see `guard_connect`).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from bottle_fsm import __version__
from bottle_fsm.egress import detectors, guard_dial, wire
from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import HTTP_PORT, HTTPS_PORT, EgressPolicy
from bottle_fsm.egress.settings import Tokens

PATH: Final = "/api/v1/scan"
IDLE_TIMEOUT: Final = 60.0
SCAN_TIMEOUT: Final = 5.0
_FIELDS: Final = {
    "": {"kind", "input", "context", "options"},
    "input": {"url", "text", "content"},
    "context": {"request_id", "session_id", "agent_name"},
    "options": {"include_evidence"},
}
_INPUT_OF: Final = {"url": "url", "dlp": "text"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one launch may ask of the scan API."""

    max_body_bytes: int = 4 * 1024 * 1024
    max_text: int = 524_288
    requests_per_minute: int = 60_000
    burst: int = 1000
    connections: int = 100


@dataclass(frozen=True, slots=True)
class _Finding:
    scanner: str
    rule_id: str
    severity: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"scanner": self.scanner, "rule_id": self.rule_id, "severity": self.severity, "message": self.message}


class _ScanError(Exception):
    """The API's own error: HTTP status and code of the envelope."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Bucket:
    """A token bucket: `burst` at once, refilled at a steady rate."""

    def __init__(self, limits: Limits) -> None:
        self._rate = limits.requests_per_minute / 60
        self._burst = float(limits.burst)
        self._left = self._burst
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class ScanApi:
    """Serves the scan port for one policy."""

    def __init__(self, policy: EgressPolicy, tokens: Tokens, log: JsonLines, *, limits: Limits) -> None:
        self._policy = policy
        self._token = f"Bearer {tokens.scan}"
        self._log = log
        self._limits = limits
        self._bucket = _Bucket(limits)
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one connection until it ends; nothing that goes wrong reaches the caller."""
        self._connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - a bug in one connection must end that connection only, unanswered
            self._log.write("error", by="guard", action="error", reason=f"internal_{type(error).__name__}")
        finally:
            self._connections -= 1
            await wire.close_writer(writer)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether the connection stays open."""
        started = time.monotonic()
        envelope: dict[str, Any] = {"scan_id": f"scan-{uuid.uuid4().hex}", "engine_version": f"builtin-{__version__}"}
        keep, status = False, 200
        try:
            head = await _next_head(reader)
            if head is None:
                return False
            self._admit(head)
            async with asyncio.timeout(IDLE_TIMEOUT):
                body = await wire.read_body(reader, head, limit=self._limits.max_body_bytes)
            keep = True
            async with asyncio.timeout(SCAN_TIMEOUT):
                envelope |= await self._scan(body)
        except wire.WireError as error:
            keep, status = False, error.status if error.status == 413 else 400  # noqa: PLR2004 - Content Too Large
            envelope |= _error("body_too_large" if status == 413 else "invalid_input", str(error))  # noqa: PLR2004
        except _ScanError as error:
            keep, status = keep and error.status != 401, error.status  # noqa: PLR2004 - Unauthorized
            envelope |= _error(error.code, str(error))
        except TimeoutError:
            keep, status = False, 503
            envelope |= _error("scan_deadline_exceeded", "the scan took too long")
        envelope["duration_ms"] = round((time.monotonic() - started) * 1000, 3)
        writer.write(wire.answer(status, envelope, close=not keep))
        await writer.drain()
        return keep

    def _admit(self, head: wire.Head) -> None:
        method, target, _ = head.start
        if target != PATH:
            raise _ScanError(404, "not_found", f"only {PATH} answers")
        if method != "POST":
            raise _ScanError(405, "method_not_allowed", "only POST is served")
        if not hmac.compare_digest((head.one("authorization") or "").encode(), self._token.encode()):
            raise _ScanError(401, "unauthorized", "the bearer token is missing or wrong")
        if self._connections > self._limits.connections:
            raise _ScanError(503, "too_many_connections", "too many connections")
        if not self._bucket.take():
            raise _ScanError(429, "rate_limited", "too many scans in a short time")

    async def _scan(self, body: bytes) -> dict[str, Any]:
        kind, text, request_id = self._parse(body)
        if kind == "url":
            findings = await self._scan_url(text)
        else:
            rules = await asyncio.to_thread(detectors.found_rules, text)
            findings = [_secret(rule) for rule in rules]
        deny = any(finding.severity != "info" for finding in findings)
        answer = {
            "status": "completed",
            "decision": "deny" if deny else "allow",
            "kind": kind,
            "findings": [finding.as_json() for finding in findings],
        }
        return answer | ({"request_id": request_id} if request_id else {})

    def _parse(self, body: bytes) -> tuple[str, str, str]:
        try:
            value = json.loads(body)
        except ValueError:
            raise _ScanError(400, "invalid_input", "the body is not JSON") from None
        _strict(value, "")
        for name in ("input", "context", "options"):
            _strict(value.get(name, {}), name)
        kind = value.get("kind")
        if kind not in _INPUT_OF:
            raise _ScanError(400, "invalid_input", "kind is url or dlp")
        text = value.get("input", {}).get(_INPUT_OF[kind])
        request_id = value.get("context", {}).get("request_id", "")
        if not isinstance(text, str) or not isinstance(request_id, str) or len(value["input"]) != 1:
            raise _ScanError(400, "invalid_input", f"input holds exactly {_INPUT_OF[kind]}, a text")
        if len(text.encode(errors="replace")) > self._limits.max_text:
            raise _ScanError(400, "invalid_input", "the text is too long")
        return kind, text, request_id

    async def _scan_url(self, url: str) -> list[_Finding]:
        try:
            parts = urlsplit(url)
            default = {"https": HTTPS_PORT, "http": HTTP_PORT}[parts.scheme]
            host, port = normalise_host(parts.hostname or ""), parts.port or default
        except (ValueError, KeyError):
            return [_Finding("parser", "url_malformed", "high", "not a URL with a host name")]
        secrets = [_secret(rule) for rule in await asyncio.to_thread(detectors.found_rules_in_url, url)]
        if self._policy.match(host, port) is None:
            return [_Finding("allowlist", "not_listed", "high", "host and port are not on the allowlist"), *secrets]
        if secrets:
            return secrets
        try:
            await guard_dial.checked_addresses(self._policy, host, port)
        except guard_dial.DialError as error:
            # A name without an address is no matter of policy: nothing can be sent there, and the tunnel will say so.
            return [
                _Finding("ssrf", error.rule, "high" if error.refused else "info", "the name's addresses were checked")
            ]
        return []


async def _next_head(reader: asyncio.StreamReader) -> wire.Head | None:
    """Return the head of the next question, None when the client has closed, or was silent for too long.

    Silence gets no answer: one that nobody asked for would be taken for the answer to the next question.
    """
    try:
        async with asyncio.timeout(IDLE_TIMEOUT):
            return await wire.read_head(reader)
    except TimeoutError:
        return None


def _secret(rule: str) -> _Finding:
    return _Finding("dlp", rule, "critical", f"matches the rule {rule}")


def _strict(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise _ScanError(400, "invalid_input", f"{name or 'the body'} is an object")
    if set(value) - _FIELDS[name]:
        raise _ScanError(400, "invalid_input", f"unknown field in {name or 'the body'}")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"status": "error", "error": {"code": code, "message": message}}
