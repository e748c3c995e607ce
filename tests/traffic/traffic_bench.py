"""A sidecar's log as a test makes it, and the collector that may be killed at each of its calls to the system."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress.jsonlines import DECISION
from bottle_fsm.errors import NoLogError
from bottle_fsm.model import Launch
from bottle_fsm.traffic import collect as collect_module
from bottle_fsm.traffic.collect import Sidecars
from bottle_fsm.traffic.paths import Paths, paths_of
from bottle_fsm.traffic.reading import Reader

LAUNCH = Launch("root", "demo/one", "0123456789ab", "one-12345678", 1)
BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""A collector that is killed loses nothing that it wrote, on disk or not: memory is faster."""


def decision(number: int, *, at: float | None = None, event: str = "decision", **more: Any) -> bytes:
    """Return a line as our sidecars write it, one of a kind by its number."""
    time = (BEGIN + timedelta(seconds=number if at is None else at)).isoformat(timespec="microseconds")
    value = {"time": time.replace("+00:00", "Z"), "event": event, "bottle": "demo/one", "launch": "claimed"}
    fields = {"host": f"h{number}.test", "port": 443, "action": "allow", "bytes": number}
    return json.dumps({**value, **DECISION, **fields, **more}).encode()


def startup(at: float = 0.0) -> bytes:
    """Return what a sidecar writes first."""
    time = (BEGIN + timedelta(seconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps({"time": time, "event": "startup", "policy": "p"}).encode()


@dataclass
class Logs:
    """The logs of a launch's sidecars, as an engine would give them."""

    logs: dict[str, list[bytes]] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)

    def read(self, role: str, since: float) -> bytes:
        """Return a log; a line without a time is as old as the one before it."""
        self.asked.append((role, since))
        if role not in self.logs:
            raise NoLogError(f"there is no {role}")
        lines, written = self.logs[role], 0.0
        for index, line in enumerate(lines):
            written = _moment(line) or written
            if written >= since:
                return b"".join(found + b"\n" for found in lines[index:])
        return b""


def _moment(line: bytes) -> float:
    try:
        return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return 0.0


class Killed(BaseException):
    """The collector is dead."""


@contextmanager
def killed_at(number: int) -> Iterator[Callable[[], int]]:
    """Let the n-th call to the system, or the moment before or after it, be the last; 0 for none. Gives the count."""
    passed = 0

    def step() -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            raise Killed

    real_write, real_rename, real_sync = os.write, Path.rename, os.fdatasync

    def write(descriptor: int, data: memoryview) -> int:
        step()
        half = real_write(descriptor, bytes(data[: max(700, len(data) // 2)]))
        step()
        return half

    def rename(self: Path, target: Path) -> Path:
        step()
        done = real_rename(self, target)
        step()
        return done

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        step()

    patch = pytest.MonkeyPatch()
    patch.setattr(os, "write", write)
    patch.setattr(Path, "rename", rename)
    patch.setattr(os, "fdatasync", sync)
    try:
        yield lambda: passed
    finally:
        patch.undo()


def sidecars(state: Path, logs: Logs, **more: Any) -> Sidecars:
    return Sidecars(state, LAUNCH, logs.read, **more)


def collect_now(state: Path, logs: Logs, *, kill: int = 0, **more: Any) -> bool:
    """Collect in this thread, killed at the n-th call; tell whether it lived."""
    with killed_at(kill):
        try:
            collect_module._collect(sidecars(state, logs, **more), 5.0)
        except Killed:
            return False
    return True


def paths(state: Path) -> Paths:
    return paths_of(state, LAUNCH.slug, LAUNCH.launch)


def recorded(state: Path) -> list[dict[str, Any]]:
    """Return all lines of the record."""
    with Reader(paths(state)) as reader:
        return [json.loads(line) for line in reader.begin()]
