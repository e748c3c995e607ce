"""The children of a sandbox's first process: begun with every wall that it has itself, waited for, ended whole."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import termios
from typing import Any

STANDARD = 3
"""Input, output and errors: what a command gets."""
CANNOT_RUN, NOT_FOUND = 126, 127
MARK_NAME = "BOTTLE_EXEC"
"""The variable by which a command's descendants are known when they left its session, or it has ended."""
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
