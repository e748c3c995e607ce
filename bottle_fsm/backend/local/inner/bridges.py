"""Bytes carried between the sockets that lead out of a sandbox and loopback ports in it."""

from __future__ import annotations

import asyncio
import contextlib
import os

CHUNK = 1 << 16


async def bridge(listen_at: str, lead_to: str, free: list[None]) -> asyncio.Server:
    """Carry bytes from one place to another; a place is `tcp:ADDRESS:PORT` or `unix:PATH`.

    Each connection takes one of `free` while it lasts; one for which none is left is closed at once.
    """

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not free:
            writer.transport.abort()
            return
        free.pop()
        try:
            there = await connect(lead_to)
            await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
            there[1].close()
        except OSError:
            pass
        finally:
            writer.close()
            free.append(None)

    kind, _, where = listen_at.partition(":")
    if kind == "unix":
        server = await asyncio.start_unix_server(carry, where, limit=CHUNK)
        os.chmod(where, 0o666)  # noqa: PTH101, S103 - the directory says who may connect
        return server
    host, _, port = where.rpartition(":")
    return await asyncio.start_server(carry, host, int(port), limit=CHUNK)


async def connect(place: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a place."""
    kind, _, where = place.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(where, limit=CHUNK)
    host, _, port = where.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=CHUNK)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction, and its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
