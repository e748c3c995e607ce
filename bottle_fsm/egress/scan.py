"""Asks the guard's scan API. Allowed means: HTTP 200 and exactly `decision: allow` about the very question asked.

Everything else, a timeout, an error or a strange answer included, is no permission. Not its duty: what a refusal looks
like to the agent.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import Any, Final, Literal

from bottle_fsm.egress import wire

CONNECT_TIMEOUT: Final = 2.0
ANSWER_TIMEOUT: Final = 8.0
MAX_IDLE: Final = 8
MAX_AT_ONCE: Final = 32
"""Fewer than the connections that a guard takes; more questions wait their turn."""
CHUNK: Final = 256 * 1024
OVERLAP: Final = 4096
"""Long texts are asked about in parts that overlap, so that no token is cut in two."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Kind = Literal["url", "dlp"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guard said: allowed, denied by rules, or `failure`: why there is no answer to rely on."""

    allow: bool
    rules: tuple[str, ...] = ()
    failure: str = ""


class _NoAnswerError(Exception):
    """The guard gave no answer that can be relied on; the text is a stable word."""


class ScanClient:
    """Asks one guard, over a few connections that are kept open."""

    def __init__(self, host: str, port: int, *, agent: str) -> None:
        self._host = host
        self._port = port
        self._agent = agent
        self._idle: list[Connection] = []
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def url(self, url: str, token: str) -> Answer:
        """Ask about a URL."""
        return await self._ask("url", url, token)

    async def text(self, text: str, token: str) -> Answer:
        """Ask about a text of any length: every part must be allowed."""
        found: tuple[str, ...] = ()
        for part in parts_of(text):
            answer = await self._ask("dlp", part, token)
            if not answer.allow:
                return answer
            found += answer.rules
        return Answer(allow=True, rules=found)

    async def _ask(self, kind: Kind, value: str, token: str) -> Answer:
        request_id = uuid.uuid4().hex
        question = {
            "kind": kind,
            "input": {"url" if kind == "url" else "text": value},
            "context": {"request_id": request_id, "agent_name": self._agent},
        }
        body = json.dumps(question, ensure_ascii=False).encode("utf-8", "replace")
        try:
            async with self._turns, asyncio.timeout(ANSWER_TIMEOUT):
                status, answer = await self._exchange(body, token)
        except TimeoutError:
            return Answer(allow=False, failure="guard_timeout")
        except (OSError, wire.WireError):
            return Answer(allow=False, failure="guard_unreachable")
        except _NoAnswerError as error:
            return Answer(allow=False, failure=str(error))
        return judge(status, answer, kind=kind, request_id=request_id)

    async def _exchange(self, body: bytes, token: str) -> tuple[int, bytes]:
        """Send one question; a kept connection that the guard has closed meanwhile is replaced once."""
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._exchange_on(connection, body, token)
            except (OSError, _NoAnswerError):
                continue
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection = await asyncio.open_connection(self._host, self._port, limit=wire.MAX_HEAD)
        return await self._exchange_on(connection, body, token)

    async def _exchange_on(self, connection: Connection, body: bytes, token: str) -> tuple[int, bytes]:
        reader, writer = connection
        keep = False
        try:
            writer.write(self._request(len(body), token) + body)
            await writer.drain()
            head = await wire.read_head(reader)
            if head is None:
                raise _NoAnswerError("guard_closed")
            answer = await wire.read_body(reader, head)
            keep = head.start[0] == "HTTP/1.1" and (head.one("connection") or "").lower() != "close"
            return _status(head), answer
        finally:
            if keep and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                writer.close()

    def _request(self, length: int, token: str) -> bytes:
        return (
            "POST /api/v1/scan HTTP/1.1\r\n"
            f"Host: {self._host}:{self._port}\r\n"
            f"Authorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode("ascii")


def judge(status: int, body: bytes, *, kind: Kind, request_id: str) -> Answer:
    """Read the guard's answer to one question; allowed only when everything about it is as it must be."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if status != 200 or not isinstance(value, dict):  # noqa: PLR2004 - the one status that can allow
        return Answer(allow=False, failure=f"guard_error_{status}")
    if value.get("kind") != kind or value.get("request_id") != request_id:
        return Answer(allow=False, failure="guard_answered_another_question")
    rules = _rule_ids(value.get("findings"))
    if value.get("decision") == "allow":
        return Answer(allow=True, rules=rules)
    if value.get("decision") == "deny":
        return Answer(allow=False, rules=rules or ("unnamed",))
    return Answer(allow=False, failure="guard_malformed_answer")


def parts_of(text: str) -> list[str]:
    """Cut a text into parts that the guard takes at once, each overlapping the one before."""
    step = CHUNK - OVERLAP
    return [text[at : at + CHUNK] for at in range(0, max(len(text) - OVERLAP, 1), step)]


def _status(head: wire.Head) -> int:
    version, status, _ = head.start
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
        raise _NoAnswerError("guard_malformed_answer")
    return int(status)


def _rule_ids(findings: Any) -> tuple[str, ...]:
    if not isinstance(findings, list):
        return ()
    named = [entry.get("rule_id") for entry in findings if isinstance(entry, dict)]
    return tuple(name for name in named if isinstance(name, str))
