"""One lock per bottle: `flock` on a file of its own, with the holder written inside for people to read.

The lock file is never unlinked (a new inode would be a second lock) and never forced. The epoch in the journal is what
protects the data; the lock only keeps honest processes from waiting in the wrong place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bottle_fsm.errors import LockHeldError

_POLL = 0.05
_GRACE = 0.1
"""Seconds that a lock is tried for in any case: `is_held` of another process may look at that very moment."""


def boot_id() -> str:
    """Return the kernel's boot id; `unknown` where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def is_held(root: Path, bottle: str) -> bool:
    """Tell whether a process holds a bottle's lock now; nothing is written, and the question holds it for no time.

    It asks for a shared lock and lets go at once: two who ask do not disturb each other, and one who takes the lock
    at that very moment waits for `_GRACE`.
    """
    try:
        descriptor = os.open(_lock_file(root, bottle), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(root: Path, bottle: str) -> Path:
    stem = hashlib.sha256(bottle.encode()).hexdigest()[:16]
    return root / "locks" / f"{stem}.lock"


class BottleLock:
    """The lock of one bottle; a context manager that holds it."""

    def __init__(
        self,
        root: Path,
        bottle: str,
        *,
        command: str,
        timeout: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Name the lock.

        Args:
            root: the state root.
            bottle: whose lock.
            command: tells others what we do.
            timeout: how many seconds to wait for it.
            sleep: waits between two tries; what it raises ends the waiting.
        """
        self._sleep = sleep
        self._path = _lock_file(root, bottle)
        self._bottle = bottle
        self._command = command
        self._timeout = max(timeout, _GRACE)
        self._descriptor = -1

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._timeout
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self._read(descriptor)
                os.close(descriptor)
                if time.monotonic() >= deadline:
                    raise self._held(holder) from None
                self._sleep(_POLL)
                continue
            if self._same_file(descriptor):
                break
            os.close(descriptor)
        self._descriptor = descriptor
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):  # closed under us: the lock is lost, and the journal's epoch has told so
            if self._same_file(descriptor):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _same_file(self, descriptor: int) -> bool:
        ours = os.fstat(descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _write(self) -> None:
        holder = {"pid": os.getpid(), "boot": boot_id(), "command": self._command, "bottle": self._bottle}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)

    @staticmethod
    def _read(descriptor: int) -> dict[str, object]:
        try:
            value = json.loads(os.pread(descriptor, 4096, 0))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def _held(self, holder: dict[str, object]) -> LockHeldError:
        who = f"pid {holder['pid']} ({holder['command']})" if "pid" in holder else "another process"
        return LockHeldError(
            f"held by {who}",
            place=self._bottle,
            hint="Wait for it, or give --lock-timeout SECONDS to wait here.",
        )
