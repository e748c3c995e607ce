"""CONNECT relay for declared raw TCP: ssh to exactly the declared host and port, through the guard, under caps.

Whoever can reach this port can use any key at that destination; that is what the manifest's ssh rule means. What is
not SSH is cut off at its first bytes, from either side.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from bottle_fsm.egress import pump, verdict, wire
from bottle_fsm.egress.delivered import DeliveredSecrets
from bottle_fsm.egress.hosts import normalise_host, parse_port
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.settings import Address

HEAD_TIMEOUT: Final = 10.0
GUARD_TIMEOUT: Final = 20.0


class _RefusedError(Exception):
    """A CONNECT that is not served."""

    def __init__(self, status: int, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RelayCaps:
    """Caps of each tunnel, and how many there may be at once."""

    tunnel: pump.Caps
    max_connections: int


class Relay:
    """Serves the relay port of the interceptor."""

    def __init__(
        self, policy: EgressPolicy, guard: Address, secrets: DeliveredSecrets, log: JsonLines, *, caps: RelayCaps
    ) -> None:
        self._policy = policy
        self._guard = guard
        self._secrets = secrets
        self._log = log
        self._caps = caps
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; nothing that goes wrong with it reaches the caller."""
        started = time.monotonic()
        record: dict[str, Any] = {
            "host": "",
            "port": 0,
            "method": "CONNECT",
            "rule": "",
            "action": "error",
            "reason": "broken",
        }
        try:
            await self._serve((reader, writer), record)
        except wire.WireError:
            record |= {"action": "deny", "reason": "malformed_request"}
            await self._answer(writer, 400, record)
        except _RefusedError as refused:
            action = "error" if refused.status >= 500 else "deny"  # noqa: PLR2004 - 5xx: nobody decided
            record |= {"action": action, "rule": refused.rule, "reason": refused.reason}
            await self._answer(writer, refused.status, record)
        except pump.PumpError as error:
            record |= {"action": "deny", "reason": str(error)}
        except (OSError, TimeoutError):
            record |= {"action": "error", "reason": "connection_broken"}
        except Exception as error:  # noqa: BLE001 - a bug in one connection must end that connection only, refused
            record |= {"action": "error", "reason": f"internal_{type(error).__name__}"}
        finally:
            self._log.write("decision", **record, by="relay", ms=round((time.monotonic() - started) * 1000, 3))
            await wire.close_writer(writer)

    async def _serve(self, client: pump.Stream, record: dict[str, Any]) -> None:
        async with asyncio.timeout(HEAD_TIMEOUT):
            head = await wire.read_head(client[0])
        if head is None:
            record |= {"reason": "client_silent"}
            return
        target, rule, token = self._admit(head, record)
        self._open += 1
        try:
            server = await self._through_guard(target, rule, token)
        except BaseException:
            self._open -= 1
            raise
        tally = pump.Tally()
        try:
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await client[1].drain()
            record |= {"action": "allow", "rule": rule}
            checks = (pump.ssh_banner, pump.ssh_banner)
            record["reason"] = await pump.pump(client, server, self._caps.tunnel, checks=checks, tally=tally)
        finally:
            self._open -= 1
            record |= {"bytes": tally.sent + tally.received, "sent": tally.sent, "received": tally.received}
            await wire.close_writer(server[1])

    def _admit(self, head: wire.Head, record: dict[str, Any]) -> tuple[str, str, str]:
        method, target, _ = head.start
        if method != "CONNECT":
            raise _RefusedError(405, "", "only_connect_is_served")
        host_text, _, port_text = target.rpartition(":")
        try:
            host, port = normalise_host(host_text), parse_port(port_text)
        except ValueError:
            raise _RefusedError(403, "", "host_not_a_name") from None
        record |= {"host": host, "port": port}
        decision = verdict.relay_verdict(self._policy, host, port)
        delivered = self._secrets.get()
        if delivered is None:
            raise _RefusedError(403, "", "not_ready")
        if not decision.allow:
            raise _RefusedError(403, decision.rule, decision.reason)
        if self._open >= self._caps.max_connections:
            raise _RefusedError(503, decision.rule, "too_many_connections")
        return f"{host}:{port}", decision.rule, delivered.tokens.proxy

    async def _through_guard(self, target: str, rule: str, token: str) -> pump.Stream:
        try:
            async with asyncio.timeout(GUARD_TIMEOUT):
                server = await asyncio.open_connection(self._guard.host, self._guard.port, limit=wire.MAX_HEAD)
        except (OSError, TimeoutError):
            raise _RefusedError(502, rule, "guard_unreachable") from None
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        try:
            async with asyncio.timeout(GUARD_TIMEOUT):
                server[1].write(request.encode("ascii"))
                await server[1].drain()
                head = await wire.read_head(server[0])
            status = head.start[1] if head is not None else ""
            if status == "200":
                return server
        except (OSError, TimeoutError, wire.WireError):
            status = ""
        await wire.close_writer(server[1])
        refused = status == "403"
        raise _RefusedError(403 if refused else 502, rule, "guard_refused_tunnel" if refused else "guard_unreachable")

    async def _answer(self, writer: asyncio.StreamWriter, status: int, record: dict[str, Any]) -> None:
        refusal = {
            "error": "egress_refused",
            "host": record["host"],
            "rule": record["rule"],
            "reason": record["reason"],
        }
        try:
            writer.write(wire.answer(status, refusal))
            await writer.drain()
        except OSError:
            return
