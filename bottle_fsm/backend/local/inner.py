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
SIGINFO = struct.Struct("8xiI112x")
"""Of a signal that is read from a descriptor: how it was sent, and by which pid of this namespace."""
SIGSET_BYTES = 128
SI_USER = 0
STANDARD = 3
"""Input, output and errors: what a command gets."""
CANNOT_RUN, NOT_FOUND = 126, 127
BRIDGED = 2048
"""Connections that are carried at once. The agent makes them, and must not take all of this process's descriptors."""
MARK_NAME = "BOTTLE_EXEC"
"""The variable by which a command's descendants are known when they left its session, or it has ended."""
END = 0
"""Sent in place of a signal: end everything."""
KILL_ROUNDS, KILL_PAUSE = 200, 0.005


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
    code = CANNOT_RUN  # whatever happens below: a child must never go on as a second first process
    try:
        become(request, [terminal] * STANDARD if terminal is not None else descriptors, terminal=terminal)
    except FileNotFoundError:
        code = NOT_FOUND
        os.write(2, f"{request['argv'][0]}: not found\n".encode())
    except BaseException as error:  # noqa: BLE001 - see above
        os.write(2, f"{request['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(code)


def become(request: dict[str, Any], descriptors: list[int], *, terminal: int | None) -> None:
    """Turn this process into the command."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    if terminal is not None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number, descriptor in enumerate([os.dup(d) for d in descriptors]):
        os.dup2(descriptor, number)
    os.closerange(STANDARD, 1 << 20)
    os.umask(0o022)
    try:
        os.chdir(request["cwd"])
    except OSError as error:
        raise RuntimeError(f"cannot run in {request['cwd']}: {error.strerror}") from error
    os.execvpe(request["argv"][0], request["argv"], {**os.environ, **request["env"]})  # noqa: S606 - that is its duty


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


async def end(pid: int, request: dict[str, Any]) -> None:
    """End a command whose launcher went. With a terminal as a terminal does it; else all of it, and for certain.

    `timeout` makes a process group of its own, so the group is not enough; a fork could fail, so nothing is started.
    """
    if request["tty"]:
        for signum in (signal.SIGHUP, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signum)
        return
    value = request["env"].get(MARK_NAME)
    mark = os.fsencode(f"{MARK_NAME}={value}") if value else b""
    for _ in range(KILL_ROUNDS):
        found = [other for other in others() if belongs(other, pid, mark)]
        for other in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        if not found:
            return
        await asyncio.sleep(KILL_PAUSE)


def others() -> list[int]:
    """Return every pid in here but this process's own."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]  # noqa: PTH208


def belongs(pid: int, session: int, mark: bytes) -> bool:
    """Say whether a living process is of a session, or carries a mark."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - nothing is imported that can be spared
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return False
        if int(fields[3]) == session:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            return bool(mark) and mark in file.read().split(b"\0")
    except (OSError, IndexError, ValueError):
        return False


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
        return 125
    for name, value in config["limits"].items():
        _, hard = resource.getrlimit(LIMITS[name])
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(LIMITS[name], (capped, capped))
    return asyncio.run(run(config))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
