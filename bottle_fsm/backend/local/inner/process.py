"""The first process itself: its own walls, the word to go, orphans, signals from outside, and its end.

It cannot be looked into by the agent, and nothing in the sandbox can end it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import struct
from typing import Any

from .bridges import bridge
from .commands import CANNOT_RUN, STANDARD, Commands, spawn
from .serving import serve

PR_SET_DUMPABLE = 4
GO_SECONDS = 30.0
NO_GO = 125
LIMITS = {
    "nproc": resource.RLIMIT_NPROC,
    "nofile": resource.RLIMIT_NOFILE,
    "core": resource.RLIMIT_CORE,
    "memlock": resource.RLIMIT_MEMLOCK,
}
SIGINFO = struct.Struct("8xiI112x")
"""Of a signal that is read from a descriptor: how it was sent, and by which pid of this namespace."""
SIGSET_BYTES = 128
SI_USER = 0
BRIDGED = 2048
"""Connections that are carried at once. The agent makes them, and must not take all of this process's descriptors."""


def signals_from_outside() -> int:
    """Return a descriptor from which SIGTERM and SIGINT are read, with who sent them.

    A handler would not know the sender: `pkill python3` in the agent's own session would end the whole sandbox.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = ctypes.create_string_buffer(SIGSET_BYTES)
    libc.sigemptyset(wanted)
    for signum in (signal.SIGTERM, signal.SIGINT):
        libc.sigaddset(wanted, int(signum))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    descriptor: int = libc.signalfd(-1, wanted, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "no signals can be read")
    return descriptor


def is_from_outside(info: bytes) -> bool:
    """Say whether a signal came from outside: a sender that has no pid here, by a call that cannot lie about it."""
    return SIGINFO.unpack(info) == (SI_USER, 0)


async def run(config: dict[str, Any]) -> int:
    """Serve until SIGTERM from outside, or until the one program ends; return the exit code."""
    loop = asyncio.get_running_loop()
    commands = Commands()
    stop: asyncio.Future[int] = loop.create_future()
    loop.add_signal_handler(signal.SIGCHLD, commands.reap)

    def stopped() -> None:
        if not stop.done():
            stop.set_result(0)

    told = signals_from_outside()
    loop.add_reader(told, lambda: stopped() if is_from_outside(os.read(told, SIGINFO.size)) else None)
    free: list[None] = [None] * min(BRIDGED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    servers = [await bridge(item["listen"], item["to"], free) for item in config["bridges"]]
    listener = socket.socket(fileno=config["control"])
    listener.setblocking(False)  # noqa: FBT003 - the library's signature
    serving = asyncio.ensure_future(serve(listener, commands))
    waiting = {stop}
    if config["main"]:
        request = {"argv": config["main"], "env": {}, "cwd": "/"}
        waiting.add(commands.watch(spawn(request, [0, 1, 2])))
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    for server in servers:
        server.close()
    return done.pop().result()


def wait_for_go(descriptor: int) -> bool:
    """Say that this is here, and wait until the supervisor has recorded who this is; False when it died before."""
    with socket.socket(fileno=descriptor) as supervisor:
        supervisor.settimeout(GO_SECONDS)
        try:
            supervisor.sendall(b"here")
            return supervisor.recv(16) == b"go"
        except OSError:
            return False


def main(config: dict[str, Any]) -> int:
    """Shut the door to this process, wait for the word to go, and run."""
    # The interpreter may have changed a variable for itself; commands get what the plan says and nothing else.
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - nothing is imported that can be spared
        given = dict(item.split(b"=", 1) for item in file.read().split(b"\0") if b"=" in item)
    os.environb.clear()
    os.environb.update(given)
    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        return CANNOT_RUN
    known = sorted({config["control"], config["go"]})
    for first, last in zip([STANDARD, *(number + 1 for number in known)], [*known, 1 << 20]):  # noqa: B905 - old Pythons
        os.closerange(first, last)
    if not wait_for_go(config["go"]):
        return NO_GO
    for name, value in config["limits"].items():
        _, hard = resource.getrlimit(LIMITS[name])
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(LIMITS[name], (capped, capped))
    return asyncio.run(run(config))


def begin(text: str) -> int:
    """Be the first process that a JSON text describes; return its exit code."""
    return main(json.loads(text))
