"""The first process of a sandbox: `inner.py CONFIG`. Standard library only; nothing of the host is trusted to be there.

Carries bytes between the sockets that lead out and loopback ports, runs one program if it is told to, reaps orphans,
and starts the launcher's commands, which inherit every wall of the sandbox. It cannot be looked into by the agent.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import pty
import resource
import signal
import socket
import struct
import sys
import termios
from typing import Any

PR_SET_DUMPABLE = 4
REQUEST_BYTES = 1 << 20
CHUNK = 1 << 16
COMMANDS = 64
GO_SECONDS = 30.0
LIMITS = {
    "nproc": resource.RLIMIT_NPROC,
    "nofile": resource.RLIMIT_NOFILE,
    "core": resource.RLIMIT_CORE,
    "memlock": resource.RLIMIT_MEMLOCK,
}
HEAD = struct.Struct(">I")
STANDARD = 3
"""Input, output and errors: what a command gets."""
HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP}


class Commands:
    """What the launcher asked to run, and the children that are to be waited for."""

    def __init__(self) -> None:
        self.ended: dict[int, asyncio.Future[int]] = {}

    def reap(self) -> None:
        """Wait for every child that ended, be it ours or an orphan of the agent's."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            waiting = self.ended.pop(pid, None)
            if waiting is not None and not waiting.done():
                code = os.waitstatus_to_exitcode(status)
                waiting.set_result(128 - code if code < 0 else code)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """Return what will hold the exit code of a child."""
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended[pid] = waiting
        return waiting


def spawn(request: dict[str, Any], descriptors: list[int], *, terminal: int | None = None) -> int:
    """Start a command with exactly three descriptors, in a session of its own; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for signum in HANDLED:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            descriptors = [terminal] * 3
        for number, descriptor in enumerate([os.dup(d) for d in descriptors]):
            os.dup2(descriptor, number)
        os.closerange(3, 1 << 16)
        os.umask(0o022)
        with contextlib.suppress(OSError):
            os.chdir(request["cwd"])
        os.execvpe(request["argv"][0], request["argv"], {**os.environ, **request["env"]})  # noqa: S606 - that is its duty
    except FileNotFoundError:
        os.write(2, f"{request['argv'][0]}: not found\n".encode())
        os._exit(127)
    except BaseException as error:  # noqa: BLE001 - a child must never go on as a second first process
        os.write(2, f"{request['argv'][0]}: {error}\n".encode())
        os._exit(126)


async def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Read one request, and the descriptors that came with its first byte; None when the other side is gone."""
    loop = asyncio.get_running_loop()
    data, descriptors = b"", array.array("i")
    while True:
        ready = asyncio.Event()
        loop.add_reader(connection, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(connection)
        part, ancillary, _, _ = connection.recvmsg(CHUNK, socket.CMSG_SPACE(3 * descriptors.itemsize))
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) // descriptors.itemsize * descriptors.itemsize])
        data += part
        if not part or len(data) > REQUEST_BYTES:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        if len(data) >= HEAD.size and len(data) >= HEAD.size + HEAD.unpack_from(data)[0]:
            return json.loads(data[HEAD.size :]), list(descriptors)


async def answer(connection: socket.socket, value: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one answer, a line of JSON, with descriptors if there are any."""
    data = json.dumps(value).encode() + b"\n"
    if descriptors:
        socket.send_fds(connection, [data], descriptors)
    else:
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def command(connection: socket.socket, commands: Commands) -> None:
    """Serve one connection: start a command, pass signals on, tell how it ended; kill it when the other side goes."""
    received = await receive(connection)
    if received is None:
        return
    request, descriptors = received
    master = None
    try:
        if request["tty"]:
            master, slave = pty.openpty()
            size = struct.pack("HHHH", request["rows"], request["columns"], 0, 0)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
            pid = spawn(request, [], terminal=slave)
            os.close(slave)
        elif len(descriptors) == STANDARD:
            pid = spawn(request, descriptors)
        else:
            return
        ended = commands.watch(pid)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    await answer(connection, {"pid": pid}, [master] if master is not None else None)
    if master is not None:
        os.close(master)
    gone = asyncio.ensure_future(listen(connection, pid))
    waiting: set[asyncio.Future[Any]] = {ended, gone}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        gone.cancel()
        with contextlib.suppress(OSError):
            await answer(connection, {"exit": ended.result()})
        return
    for signum in (signal.SIGHUP, signal.SIGCONT) if request["tty"] else (signal.SIGKILL,):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signum)


async def listen(connection: socket.socket, pid: int) -> None:
    """Pass signals on until the other side is gone."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, ValueError):
        while data := await loop.sock_recv(connection, 64):
            for number in data:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)


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
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)  # noqa: FBT003 - the library's signature
        task = asyncio.ensure_future(one(connection))
        running.add(task)
        task.add_done_callback(running.discard)


async def bridge(listen_at: str, lead_to: str) -> asyncio.Server:
    """Carry bytes from one place to another; a place is `tcp:ADDRESS:PORT` or `unix:PATH`."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await connect(lead_to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
        for end in (writer, there[1]):
            end.close()

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


async def run(config: dict[str, Any]) -> int:
    """Serve until SIGTERM, or until the one program ends; return the exit code."""
    loop = asyncio.get_running_loop()
    commands = Commands()
    stop: asyncio.Future[int] = loop.create_future()
    loop.add_signal_handler(signal.SIGCHLD, commands.reap)

    def end() -> None:
        if not stop.done():
            stop.set_result(0)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, end)
    servers = [await bridge(item["listen"], item["to"]) for item in config["bridges"]]
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
    """Wait until the supervisor has recorded who this is; False when it died before."""
    with socket.socket(fileno=descriptor) as supervisor:
        supervisor.settimeout(GO_SECONDS)
        try:
            return supervisor.recv(16) == b"go"
        except OSError:
            return False


def main(config: dict[str, Any]) -> int:
    """Shut the door to this process, wait for the word to go, and run."""
    os.environ.pop("LC_CTYPE", None)  # the interpreter put it there; commands get what the plan says and nothing else
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not wait_for_go(config["go"]):
        return 125
    for name, value in config["limits"].items():
        _, hard = resource.getrlimit(LIMITS[name])
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(LIMITS[name], (capped, capped))
    return asyncio.run(run(config))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
