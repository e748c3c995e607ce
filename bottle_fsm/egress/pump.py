"""Moves bytes between two connections under caps. Not its duty: deciding whether they may be connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 64 * 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FirstBytes = Callable[[asyncio.StreamReader], Awaitable[bytes]]
"""Reads and judges the first bytes of one direction; raises `PumpError` to refuse, returns them to be passed on."""


class PumpError(Exception):
    """The tunnel is ended by a rule; the text is a stable word."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one tunnel may carry, how long it may live, and how long it may be silent."""

    max_bytes: int
    max_seconds: float
    idle_seconds: float


@dataclass(slots=True)
class Tally:
    """What a tunnel has carried so far, and when last."""

    sent: int = 0
    received: int = 0
    last: float = field(default_factory=lambda: asyncio.get_running_loop().time())


async def pump(
    client: Stream, server: Stream, caps: Caps, *, checks: tuple[FirstBytes, FirstBytes], tally: Tally
) -> str:
    """Move bytes both ways until both sides are done or a cap is reached; return a word that says why it ended.

    `checks` judge the first bytes from the client and from the server; nothing passes in a direction before.

    Raises:
        PumpError: a check refused.
    """
    up = asyncio.create_task(_one_way(client[0], server[1], caps, (checks[0], tally, "sent")))
    down = asyncio.create_task(_one_way(server[0], client[1], caps, (checks[1], tally, "received")))
    idle = asyncio.create_task(_watch(caps, tally))
    try:
        async with asyncio.timeout(caps.max_seconds):
            return await _until_done({up, down}, idle)
    except TimeoutError:
        return "time_cap"
    finally:
        for task in (up, down, idle):
            task.cancel()
        await asyncio.gather(up, down, idle, return_exceptions=True)


async def _until_done(ways: set[asyncio.Task[str]], idle: asyncio.Task[str]) -> str:
    pending = set(ways)
    while pending:
        done, _ = await asyncio.wait({*pending, idle}, return_when=asyncio.FIRST_COMPLETED)
        reason = next((task.result() for task in done if task.result() != "end"), "")
        if reason:
            return reason
        pending -= done
    return "end"


async def _watch(caps: Caps, tally: Tally) -> str:
    loop = asyncio.get_running_loop()
    while (left := tally.last + caps.idle_seconds - loop.time()) > 0:  # noqa: ASYNC110 - a deadline that moves, no event
        await asyncio.sleep(left)
    return "idle"


async def _one_way(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caps: Caps, way: tuple[FirstBytes, Tally, str]
) -> str:
    check, tally, counter = way
    loop = asyncio.get_running_loop()
    try:
        data = await check(reader)
        while data:
            setattr(tally, counter, getattr(tally, counter) + len(data))
            tally.last = loop.time()
            if tally.sent + tally.received > caps.max_bytes:
                return "byte_cap"
            writer.write(data)
            await writer.drain()
            data = await reader.read(CHUNK)
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        return "broken"
    return "end"


async def any_bytes(reader: asyncio.StreamReader) -> bytes:
    """Pass on whatever comes first; for a direction that needs no check."""
    return await reader.read(CHUNK)


async def ssh_banner(reader: asyncio.StreamReader) -> bytes:
    """Require that a direction begins with the identification string of SSH 2.

    Raises:
        PumpError: it begins with anything else, or ends before.
    """
    wanted = b"SSH-2.0-"
    try:
        first = await reader.readexactly(len(wanted))
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return b""
        raise PumpError("not_ssh") from None
    if first != wanted:
        raise PumpError("not_ssh")
    return first
