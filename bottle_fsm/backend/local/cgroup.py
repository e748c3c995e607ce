"""Memory and processor limits, where this machine delegates a cgroup (version 2) to the launcher; else none.

Not its duty: limits that every process can set for itself (`inner.process`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_NEEDED: Final = ("memory", "pids")
_PERIOD: Final = 100_000


def parent(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return the nearest cgroup above us in which bottles can have limited ones of their own; None without one."""
    try:
        line = next(text for text in own.read_text(encoding="ascii").splitlines() if text.startswith("0::"))
    except (OSError, StopIteration):
        return None
    here = root / line.removeprefix("0::").lstrip("/")
    for folder in (here, *here.parents):
        if not folder.is_relative_to(root):
            break
        with contextlib.suppress(OSError):
            enabled = (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if all(name in enabled for name in _NEEDED) and os.access(folder, os.W_OK):
                return folder
    return None


def describe(memory: int, cpus: float, where: Path | None) -> str:
    """Say what is limited, for the plan."""
    if where is None:
        return "memory and processors are not limited, for no cgroup is delegated to this user"
    return f"{memory >> 20} MiB memory, {cpus:g} processors (cgroup)"


def settings(memory: int, cpus: float, pids: int) -> dict[str, str]:
    """Return file → text of a bottle's cgroup."""
    return {
        "memory.max": str(memory),
        "memory.swap.max": "0",
        "pids.max": str(pids),
        "cpu.max": f"{int(cpus * _PERIOD)} {_PERIOD}",
    }
