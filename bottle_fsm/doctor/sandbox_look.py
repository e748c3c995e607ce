"""Looks whether this machine can run sandboxes without an engine: reads settings, and starts the smallest one.

Not its duty: what the facts mean (`sandbox`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.local import cgroup, confine, fitness, seccomp
from bottle_fsm.backend.local.resolve import PATH
from bottle_fsm.doctor.bounded import SECONDS, Look, bounded
from bottle_fsm.doctor.sandbox import PYTHON, SETTINGS, SandboxFacts

_SYSCTL: Final = Path("/proc/sys")
_PROC: Final = Path("/proc/self")
_BUNDLES: Final = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/ssl/certs/ca-bundle.crt"))
_UPDATERS: Final = ("update-ca-certificates", "update-ca-trust")
_CONTAINERS: Final = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_FILTERED: Final = 2
_CALL: Final = SECONDS - 1.0


def look_at_sandboxes(environ: Mapping[str, str], *, platform: str = sys.platform) -> SandboxFacts:
    """Return the facts; takes no longer than four looks may."""
    if not platform.startswith("linux"):
        return SandboxFacts(platform=platform)
    programs = {name: shutil.which(name, path=environ.get("PATH")) or "" for name in ("bwrap", "setpriv", "unshare")}
    uid = os.geteuid()
    drops_to = confine.identity(naming.ROLE_AGENT).uid or 0
    tried: Look[str] = bounded(fitness.try_sandbox) if programs["bwrap"] else Look("")
    groups = cgroup.parent()
    return SandboxFacts(
        platform=platform,
        programs=programs,
        bwrap=bounded(fitness.bwrap_version).value or () if programs["bwrap"] else (),
        python=bounded(_python_version).value or (),
        uid=uid,
        drops_to=drops_to,
        mapped=uid_is_mapped(drops_to, _read(_PROC / "uid_map")),
        tried=bool(programs["bwrap"]),
        said=tried.problem or tried.value or "",
        settings=read_settings(_SYSCTL),
        container=next((name for path, name in _CONTAINERS.items() if Path(path).exists()), ""),
        filtered=_status_field("Seccomp") == str(_FILTERED),
        libseccomp=bounded(_make_filter).problem,
        cgroup=str(groups) if groups else "",
        cgroup_version=_cgroup_version(),
        bundle=any(path.exists() for path in _BUNDLES),
        updater=next((found for name in _UPDATERS if (found := shutil.which(name, path=PATH))), ""),
    )


def read_settings(root: Path) -> dict[str, str]:
    """Return the kernel's settings that decide about user namespaces, as far as this kernel has them."""
    found = {name: _read(root / name.replace(".", "/", 1)).strip() for name in SETTINGS}
    return {name: value for name, value in found.items() if value}


def uid_is_mapped(uid: int, uid_map: str) -> bool:
    """Tell whether a uid exists in a user namespace with this map; lines of inside, outside, length."""
    rows = [
        tuple(map(int, line.split())) for line in uid_map.splitlines() if re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", line)
    ]
    return not rows or any(first <= uid < first + count for first, _, count in rows)


def _python_version() -> tuple[int, ...]:
    command = [PYTHON, "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_CALL, cwd="/")
    return tuple(map(int, done.stdout.split()))


def _make_filter() -> None:
    os.close(seccomp.sealed_fd())


def _status_field(name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", _read(_PROC / "status"), re.MULTILINE)
    return found.group(1) if found else ""


def _cgroup_version() -> int:
    """Return 2 where the unified hierarchy is mounted, 1 where only older ones are, 0 without any."""
    if (cgroup.ROOT / "cgroup.controllers").exists():
        return 2
    return 1 if _read(_PROC / "cgroup").strip() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
