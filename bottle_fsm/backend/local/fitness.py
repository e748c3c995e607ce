"""Can this machine run a sandbox? Tried for real, and when not, why not and what to do.

Not its duty: the rest of what `bottle-fsm doctor` looks at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.local import confine, seccomp
from bottle_fsm.backend.local.sandbox import system_links
from bottle_fsm.errors import BackendError

OLDEST: Final = (0, 8)
"""The first bubblewrap that can forbid new user namespaces inside (`--disable-userns`)."""
PYTHON: Final = "/usr/bin/python3"
_TRY_SECONDS: Final = 10.0
_APPARMOR: Final = """\
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
}"""


def check_machine(*, platform: str, environ: Mapping[str, str]) -> None:
    """See that a sandbox can be started here.

    Raises:
        BackendError: it cannot; with what to do.
    """
    if not platform.startswith("linux"):
        raise BackendError(
            f"the local backend needs Linux, this is {platform}",
            place="backend local",
            hint="Use a container engine: `--backend docker`",
        )
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux"), ("unshare", "util-linux")):
        if shutil.which(program, path=environ.get("PATH")) is None:
            raise BackendError(
                f"{program} is missing",
                place="backend local",
                hint=f"Install it (`apt-get install -y {package}`), or use `--backend docker`",
            )
    if not Path(PYTHON).exists():
        hint = "Install it: apt-get install -y python3"
        raise BackendError(f"{PYTHON}, which starts commands inside, is missing", place="backend local", hint=hint)
    version = bwrap_version()
    if version < OLDEST:
        found = ".".join(map(str, version))
        hint = "Use a newer distribution's, or `--backend docker`"
        raise BackendError(f"bubblewrap {found} is too old, 0.8 is needed", place="backend local", hint=hint)
    os.close(seccomp.sealed_fd())
    if said := try_sandbox():
        problem, hint = reason(said)
        raise BackendError(problem, place="backend local", hint=hint)


def bwrap_version() -> tuple[int, ...]:
    """Return bubblewrap's version."""
    done = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False, timeout=_TRY_SECONDS)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])


def try_sandbox() -> str:
    """Start the smallest sandbox as the user that it would be; return what it says when it fails, else nothing."""
    pairs = system_links().items()
    links = [word for path, to in pairs for word in (("--symlink", to, path) if to else ("--ro-bind", path, path))]
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--assert-userns-disabled"]
    command += ["--uid", "1000", "--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev"]
    stages = confine.Stages(confine.identity(naming.ROLE_AGENT))
    done = subprocess.run(
        stages.wrap((*command, "--", "/bin/true")), capture_output=True, text=True, check=False, timeout=_TRY_SECONDS
    )
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def reason(said: str, root: Path = Path("/proc/sys")) -> tuple[str, str]:
    """Return the problem and the remedy for what a failed sandbox said, by looking at this kernel's settings."""
    if _setting(root / "user/max_user_namespaces") == "0":
        return "user namespaces are forbidden (user.max_user_namespaces is 0)", (
            "sysctl -w user.max_user_namespaces=15000, or use `--backend docker`"
        )
    if _setting(root / "kernel/unprivileged_userns_clone") == "0":
        return "user namespaces are forbidden (kernel.unprivileged_userns_clone is 0)", (
            "sysctl -w kernel.unprivileged_userns_clone=1, or use `--backend docker`"
        )
    if _setting(root / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor forbids user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)", (
            f"Write this to /etc/apparmor.d/bwrap and run `apparmor_parser -r /etc/apparmor.d/bwrap`:\n{_APPARMOR}"
        )
    return f"bubblewrap cannot start a sandbox: {said}", (
        "A container around this needs to allow user namespaces and mounts; or use `--backend docker`"
    )


def _setting(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
