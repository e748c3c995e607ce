"""Processes of this machine, told apart for certain: by pid, start time, boot and pid namespace.

Pids are used again, so none of these alone is enough. Not its duty: what a process is for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from bottle_fsm.model import Json

_PROC: Final = Path("/proc")
_START_FIELD: Final = 19
"""Of /proc/PID/stat, counted after the command's name: field 22, the start in clock ticks since boot."""
_STATE_FIELD: Final = 0
_NO_PROCESS: Final = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})
"""What the kernel says of a number that is no process's: of nobody, or, by its version, of a thread."""
_KILL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Known:
    """One process, as it was recorded."""

    pid: int
    start: int
    boot: str
    pidns: int

    def to_json(self) -> Json:
        """Return it as a JSON object."""
        return {"pid": self.pid, "start": self.start, "boot": self.boot, "pidns": self.pidns}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read it back; a record that makes no sense is a process that does not exist."""
        try:
            return cls(int(value["pid"]), int(value["start"]), str(value["boot"]), int(value["pidns"]))
        except (KeyError, TypeError, ValueError):
            return cls(0, 0, "", 0)


@dataclass(frozen=True, slots=True)
class Marked:
    """A process whose environment holds a mark."""

    known: Known
    mark: str
    environ: dict[str, str] = field(repr=False)


def boot_id() -> str:
    """Return the id of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Known | None:
    """Return the identity of a process; None when there is none, or it ended and was not waited for."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        if fields[_STATE_FIELD] in {"Z", "X"}:
            return None
        return Known(pid, int(fields[_START_FIELD]), boot_id(), _namespace(pid))
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError, ValueError):
        return None  # there is none, or it is somebody else's; any other error must not pass for an end


def is_alive(known: Known) -> bool:
    """Say whether the recorded process still runs: nothing of it may differ."""
    return known.pid > 0 and identify(known.pid) == known


def kill(known: Known, *, seconds: float = _KILL_SECONDS) -> bool:
    """Kill a recorded process, and no other that has its pid now; return whether it is gone."""
    if known.pid <= 0:
        return True
    try:
        handle = os.pidfd_open(known.pid)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return True
        raise
    try:
        if not is_alive(known):  # looked at after the handle was taken: from here on the pid cannot become another's
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def kill_namespace(init: Known, *, seconds: float = _KILL_SECONDS) -> list[int]:
    """Kill the first process of a pid namespace, and with it the namespace; return the pids that are left in it."""
    kill(init, seconds=seconds)
    if init.boot != boot_id() or init.pidns in {0, _namespace(os.getpid())}:
        return []
    deadline = time.monotonic() + seconds
    while left := left_of(init):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


def left_of(init: Known) -> list[int]:
    """Return the pids that are left of the namespace of a recorded first process.

    A namespace's number is given to the next one that is made: with another first process it is somebody else's.
    """
    found = members(init.pidns)
    first = next(filter(None, (identify(pid) for pid in found if _is_first(pid))), None)
    return found if first in {None, init} else []


def inits_below(pid: int) -> list[Known]:
    """Return the first processes of other pid namespaces among the descendants of a process."""
    ours = _namespace(os.getpid())
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            text = (_PROC / str(parent) / "task" / str(parent) / "children").read_text(encoding="ascii")
        except OSError:
            continue
        for known in filter(None, map(identify, map(int, text.split()))):
            if known.pidns == ours:
                waiting.append(known.pid)
            else:
                found.append(known)
    return found


def members(pidns: int) -> list[int]:
    """Return the pids of the living processes in a pid namespace, as far as this user may see."""
    return [pid for pid in _pids() if _is_in(pid, pidns)]


def _is_in(pid: int, pidns: int) -> bool:
    try:
        if _namespace(pid) != pidns:  # of hundreds of processes this one look is enough
            return False
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    found = identify(pid)
    return found is not None and found.pidns == pidns


def _is_first(pid: int) -> bool:
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.partition("\nNSpid:")[2].partition("\n")[0].split()[-1:] == ["1"]


def scan(variable: str) -> list[Marked]:
    """Return the processes in our own pid namespace whose environment holds a variable.

    One in another namespace or of another user counts for nothing: anybody can give himself any environment.
    """
    ours, user = _namespace(os.getpid()), os.geteuid()
    wanted = f"{variable}=".encode()
    found = []
    for pid in _pids():
        try:
            if os.stat(f"{_PROC}/{pid}").st_uid != user:  # noqa: PTH116 - every process of this machine is looked at
                continue
            with open(f"{_PROC}/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
                raw = file.read()
        except OSError:
            continue
        if wanted not in raw:
            continue
        pairs = (item.partition(b"=") for item in raw.split(b"\0") if b"=" in item)
        environ = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
        known = identify(pid)
        if variable in environ and known is not None and known.pidns == ours:
            found.append(Marked(known, environ[variable], environ))
    return found


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(_PROC) if name.isdecimal())  # noqa: PTH208 - names alone, and fast


def _namespace(pid: int) -> int:
    return os.stat(f"{_PROC}/{pid}/ns/pid").st_ino  # noqa: PTH116 - every process of this machine is looked at
