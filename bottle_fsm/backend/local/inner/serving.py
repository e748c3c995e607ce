"""The door to a sandbox's first process: requests for commands, with descriptors, and what is told of each."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import os
import pty
import socket
import struct
import termios
from typing import Any

from .commands import KILL_PAUSE, MARK_NAME, STANDARD, Commands, end, spawn

REQUEST_BYTES = 1 << 20
CHUNK = 1 << 16
COMMANDS = 64
"""Requests that are served at once."""
HEAD = struct.Struct(">I")
END = 0
"""Sent in place of a signal: end everything."""


def checked(request: Any) -> dict[str, Any]:
    """Return a request if it has the form of one."""
    argv, env = request["argv"], request["env"]
    texts = [*argv, *env, *env.values(), request["cwd"]]
    if not argv or not isinstance(argv, list) or not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("a request needs an argv, variables and a directory, all of them texts")
    size = {name: int(request[name]) & 0xFFFF for name in ("rows", "columns")} if request["tty"] else {}
    return {**request, **size, "tty": bool(request["tty"])}


async def receive(connection: socket.socket, descriptors: list[int]) -> dict[str, Any] | None:
    """Read one request, and add the descriptors that came with it; None when the other side is gone."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) <= REQUEST_BYTES:
        ready = asyncio.Event()
        loop.add_reader(connection, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(connection)
        room = socket.CMSG_SPACE(STANDARD * array.array("i").itemsize)
        part, ancillary, flags, _ = connection.recvmsg(CHUNK, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = array.array("i")
                whole.frombytes(content[: len(content) // whole.itemsize * whole.itemsize])
                descriptors.extend(whole)
        if flags & socket.MSG_CTRUNC:
            raise ValueError("not all descriptors arrived")
        if not part:
            return None
        data += part
        if len(data) >= HEAD.size and len(data) >= HEAD.size + HEAD.unpack_from(data)[0]:
            return checked(json.loads(data[HEAD.size :]))
    raise ValueError(f"a request is larger than {REQUEST_BYTES} bytes")


async def answer(connection: socket.socket, value: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one answer, a line of JSON, with descriptors if there are any."""
    data = json.dumps(value).encode() + b"\n"
    if descriptors:
        socket.send_fds(connection, [data], descriptors)
    else:
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def command(connection: socket.socket, commands: Commands) -> None:
    """Serve one connection: start a command, pass signals on, tell how it ended; kill it when the other side goes."""
    descriptors: list[int] = []
    answers: list[int] = []
    try:
        request = await receive(connection, descriptors)
        if request is None:
            return
        if request["tty"]:
            master, slave = pty.openpty()
            answers.append(master)
            descriptors.append(slave)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", request["rows"], request["columns"], 0, 0))
            pid = spawn(request, [], terminal=slave)
        elif len(descriptors) == STANDARD:
            pid = spawn(request, descriptors)
        else:
            raise ValueError("a request brings its input, its output and its errors")
        ended = commands.watch(pid)
        try:
            await answer(connection, {"pid": pid}, answers)
        except OSError:  # gone already
            await end(pid, request)
            return
    finally:
        for descriptor in descriptors + answers:
            os.close(descriptor)
    told = asyncio.ensure_future(listen(connection, pid, ended))
    waiting: set[asyncio.Future[Any]] = {ended, told}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        await end(pid, request)
    with contextlib.suppress(OSError):  # who only closed his sending half hears when everything has ended
        await answer(connection, {"exit": ended.result() if ended.done() else None})
    # What a command leaves running on purpose stays, unless its client gives up on what still holds the outputs.
    if ended.done() and await told:
        await end(0 if request["env"].get(MARK_NAME) else pid, request)


async def listen(connection: socket.socket, pid: int, ended: asyncio.Future[int]) -> bool:
    """Pass signals on until the other side is gone; return whether it said that everything is to end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, ValueError):
        while data := await loop.sock_recv(connection, 64):
            for number in data:
                if number == END:
                    return True
                if not ended.done():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, number)
    return False


async def serve(listener: socket.socket, commands: Commands) -> None:
    """Take the launcher's connections, a bounded number at a time."""
    loop = asyncio.get_running_loop()
    free = asyncio.Semaphore(COMMANDS)

    async def one(connection: socket.socket) -> None:
        async with free:
            try:
                await command(connection, commands)
            except (OSError, ValueError, KeyError, TypeError) as error:
                with contextlib.suppress(OSError):
                    await answer(connection, {"error": f"{type(error).__name__}: {error}"})
            finally:
                connection.close()

    running = set()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # no descriptor is free now; this door must outlast that
            await asyncio.sleep(KILL_PAUSE)
            continue
        connection.setblocking(False)  # noqa: FBT003 - the library's signature
        task = asyncio.ensure_future(one(connection))
        running.add(task)
        task.add_done_callback(running.discard)
