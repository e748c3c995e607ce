"""The guard's proxy port: `GET /health` and CONNECT, nothing else.

A CONNECT needs this launch's token, a listed host and port, an address that may be dialled, and first bytes that are
what the rule says: TLS for exactly that name, SSH, or plain HTTP for exactly that host. Not its duty: methods and
paths, which no tunnel shows; the interceptor has decided about them before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from bottle_fsm import __version__
from bottle_fsm.egress import guard_dial, pump, wire
from bottle_fsm.egress.hosts import normalise_host, parse_port, split_authority
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import HTTP_PORT, EgressPolicy, Rule
from bottle_fsm.egress.settings import Tokens
from bottle_fsm.egress.tls_hello import MAX_HELLO, client_hello_sni

HEAD_TIMEOUT: Final = 10.0
FIRST_BYTES_TIMEOUT: Final = 10.0
MAX_TUNNELS: Final = 256
CAPS: Final = pump.Caps(max_bytes=1 << 40, max_seconds=24 * 3600.0, idle_seconds=900.0)
HEALTH: Final = {"status": "healthy", "version": __version__, "mode": "strict", "engine": "builtin"}


class _RefusedError(Exception):
    """A CONNECT that is not served: HTTP status, the scanner that refused, and its reason."""

    def __init__(self, status: int, scanner: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.scanner = scanner
        self.reason = reason


@dataclass(slots=True)
class _Asked:
    """One connection to the guard: what its lines in the log say, whatever becomes of it."""

    request_id: str
    method: str = ""
    host: str = ""
    port: int = 0
    rule: str = ""
    started: float = field(default_factory=time.monotonic)

    def names(self, head: wire.Head) -> None:
        """Note what was asked for; only a host and port, as any other target could carry a secret."""
        self.method = head.start[0]
        if self.method != "CONNECT":
            return
        host, _, port = head.start[1].rpartition(":")
        self.host = host.split("?", 1)[0].split("/", 1)[0]
        self.port = parse_port(port)

    def line(self) -> dict[str, Any]:
        """Return the fields that every line about it has."""
        return {
            "by": "guard",
            "request_id": self.request_id,
            "host": self.host,
            "port": self.port,
            "method": self.method,
            "rule": self.rule,
            "ms": round((time.monotonic() - self.started) * 1000, 3),
        }


class ConnectProxy:
    """Serves the guard's proxy port for one policy."""

    def __init__(self, policy: EgressPolicy, tokens: Tokens, log: JsonLines) -> None:
        self._policy = policy
        self._token = f"Bearer {tokens.proxy}"
        self._log = log
        self._ids = itertools.count(1)
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; nothing that goes wrong with it reaches the caller."""
        asked = _Asked(f"req-{next(self._ids)}")
        try:
            await self._serve(reader, writer, asked)
        except (OSError, TimeoutError):
            self._log.write("error", **asked.line(), action="error", reason="connection_broken")
        except Exception as error:  # noqa: BLE001 - a bug in one connection must end that connection only, refused
            self._log.write("error", **asked.line(), action="error", reason=f"internal_{type(error).__name__}")
        finally:
            await wire.close_writer(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: _Asked) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = await wire.read_head(reader)
            if head is None:
                return
            if head.start[:2] == ("GET", "/health"):
                writer.write(wire.answer(200, HEALTH))
                await writer.drain()
                return
            await self._tunnel((reader, writer), self._admit(head, asked), asked)
        except wire.WireError as error:
            await self._refuse(writer, _RefusedError(error.status, "parse", "malformed_request"), asked)
        except _RefusedError as refusal:
            await self._refuse(writer, refusal, asked)

    def _admit(self, head: wire.Head, asked: _Asked) -> tuple[str, int, Rule]:
        with contextlib.suppress(ValueError):
            asked.names(head)
        if head.start[0] != "CONNECT":
            raise _RefusedError(405, "method", "only_connect_is_served")
        if not hmac.compare_digest((head.one("proxy-authorization") or "").encode(), self._token.encode()):
            raise _RefusedError(407, "auth", "token_missing_or_wrong")
        try:
            host_text, _, port_text = head.start[1].rpartition(":")
            host, port = normalise_host(host_text), parse_port(port_text)
        except ValueError:
            raise _RefusedError(403, "allowlist", "host_not_a_name") from None
        rule = self._policy.match(host, port)
        if rule is None:
            raise _RefusedError(403, "allowlist", "not_listed")
        asked.host, asked.rule = host, rule.name
        if self._open >= MAX_TUNNELS:
            raise _RefusedError(503, "limits", "too_many_tunnels")
        return host, port, rule

    async def _tunnel(self, client: pump.Stream, where: tuple[str, int, Rule], asked: _Asked) -> None:
        host, port, rule = where
        try:
            addresses = await guard_dial.checked_addresses(self._policy, host, port)
            server = await guard_dial.dial(addresses, port, limit=wire.MAX_HEAD)
        except guard_dial.DialError as error:
            raise _RefusedError(
                403 if error.refused else 502, "ssrf" if error.refused else "dial", error.rule
            ) from None
        tally = pump.Tally()
        self._open += 1
        self._log.write("tunnel_open", **asked.line(), action="allow", status=200)
        reason = "broken"
        try:
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await client[1].drain()
            reason = await pump.pump(client, server, CAPS, checks=_checks(rule, host), tally=tally)
        except pump.PumpError as error:
            reason = str(error)
            self._blocked(asked, _RefusedError(403, "first_bytes", reason))
        finally:
            self._open -= 1
            self._log.write(
                "tunnel_close",
                **asked.line(),
                action="close",
                reason=reason,
                bytes=tally.sent + tally.received,
                sent=tally.sent,
                received=tally.received,
            )
            await wire.close_writer(server[1])

    async def _refuse(self, writer: asyncio.StreamWriter, refusal: _RefusedError, asked: _Asked) -> None:
        self._blocked(asked, refusal)
        writer.write(wire.answer(refusal.status, {"error": "blocked", "reason": refusal.reason}))
        await writer.drain()

    def _blocked(self, asked: _Asked, refusal: _RefusedError) -> None:
        action = "error" if refusal.status >= 500 else "deny"  # noqa: PLR2004 - 5xx: nobody decided
        told = {"action": action, "status": refusal.status, "scanner": refusal.scanner, "reason": refusal.reason}
        self._log.write("blocked", **asked.line(), **told)


def _checks(rule: Rule, host: str) -> tuple[pump.FirstBytes, pump.FirstBytes]:
    """Return what the first bytes from the client and from the server have to pass."""

    async def tls(reader: asyncio.StreamReader) -> bytes:
        return await _within_time(_tls_hello(reader, host))

    async def http(reader: asyncio.StreamReader) -> bytes:
        return await _within_time(_http_head(reader, host))

    async def ssh(reader: asyncio.StreamReader) -> bytes:
        return await _within_time(pump.ssh_banner(reader))

    return {"https": (tls, pump.any_bytes), "http": (http, pump.any_bytes), "ssh-tcp": (ssh, pump.ssh_banner)}[
        rule.kind
    ]


async def _within_time(check: Coroutine[None, None, bytes]) -> bytes:
    try:
        async with asyncio.timeout(FIRST_BYTES_TIMEOUT):
            return await check
    except TimeoutError:
        raise pump.PumpError("client_silent") from None


async def _tls_hello(reader: asyncio.StreamReader, host: str) -> bytes:
    data = b""
    while True:
        more = await reader.read(pump.CHUNK)
        if not more:
            if data:
                raise pump.PumpError("not_tls")
            return b""
        data += more
        try:
            name = client_hello_sni(data)
            if name is not None and normalise_host(name) == host:
                return data
        except ValueError:
            raise pump.PumpError("not_tls_for_a_name") from None
        if name is not None:
            raise pump.PumpError("sni_mismatch")
        if len(data) > MAX_HELLO:
            raise pump.PumpError("not_tls")


async def _http_head(reader: asyncio.StreamReader, host: str) -> bytes:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
        named = wire.parse_head(raw).one("host") or ""
        if split_authority(named, HTTP_PORT) == (host, HTTP_PORT):
            return raw
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, wire.WireError, ValueError):
        raise pump.PumpError("not_http") from None
    raise pump.PumpError("host_mismatch")
