"""The interceptor's own health answer, on its loopback only: status, CA fingerprint, policy digest, guard reachable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bottle_fsm.egress import wire
from bottle_fsm.egress.settings import Address

GUARD_TIMEOUT: Final = 1.5
HEAD_TIMEOUT: Final = 5.0


class HealthServer:
    """Answers `GET /health`."""

    def __init__(self, guard: Address, facts: Callable[[], dict[str, str]]) -> None:
        self._guard = guard
        self._facts = facts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = await wire.read_head(reader)
            if head is not None and head.start[:2] == ("GET", "/health"):
                facts = self._facts() | {"guard": "ok" if await guard_answers(self._guard) else "unreachable"}
                writer.write(wire.answer(200, facts))
            else:
                writer.write(wire.answer(404, {"error": "not_found"}))
            await writer.drain()
        except (OSError, TimeoutError, wire.WireError):
            pass
        finally:
            await wire.close_writer(writer)


async def guard_answers(guard: Address) -> bool:
    """Tell whether the guard answers its health check."""
    try:
        async with asyncio.timeout(GUARD_TIMEOUT):
            reader, writer = await asyncio.open_connection(guard.host, guard.port, limit=wire.MAX_HEAD)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {guard.host}\r\nConnection: close\r\n\r\n".encode("ascii"))
                await writer.drain()
                head = await wire.read_head(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, wire.WireError):
        return False
    return head is not None and head.start[1] == "200"
