"""What this machine's facts mean for sandboxes without an engine. Pure.

Not its duty: trying a sandbox and reading settings (`sandbox_look`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.doctor.rows import Row, failed, ok, warning

AREA: Final = "sandbox"
OLDEST_BWRAP: Final = (0, 8)
OLDEST_PYTHON: Final = (3, 9)
PYTHON: Final = "/usr/bin/python3"
MAX_NAMESPACES: Final = "user.max_user_namespaces"
UNPRIVILEGED: Final = "kernel.unprivileged_userns_clone"
APPARMOR: Final = "kernel.apparmor_restrict_unprivileged_userns"
SETTINGS: Final = (MAX_NAMESPACES, UNPRIVILEGED, APPARMOR)
_NAMESPACES: Final = "15000"
_ENGINE: Final = "or use an engine: `--backend docker`"
_REFUSALS: Final = ("ermission", "not permitted")
"""What bubblewrap says when the kernel refuses, in its own words and in the C library's."""
_PROFILE: Final = """\
abi <abi/4.0>,
include <tunables/global>
profile bwrap {path} flags=(unconfined) {{
  userns,
}}"""


@dataclass(frozen=True, slots=True)
class SandboxFacts:
    """What was found out about sandboxes here.

    Attributes:
        platform: as `sys.platform`. programs: each program that is needed → where it is, empty if nowhere.
        bwrap: version of bubblewrap, empty if it told none. python: version of `PYTHON`, empty if it does not run.
        uid: who would start sandboxes; 0 is root, who drops to `drops_to` first. mapped: that uid exists here.
        tried: a sandbox was really started. said: what it said when it failed, empty when it ran.
        settings: kernel settings by name; those that this kernel does not have are left out.
        container: what this machine is itself inside of, such as `docker`; empty when that is not known.
        filtered: a seccomp filter of somebody else is on us. libseccomp: why our own filter cannot be made, or empty.
        cgroup: the directory in which bottles can get limits, empty without one. cgroup_version: 2, 1, or 0 for none.
        bundle: the system's CA bundle is there. updater: where update-ca-certificates is, empty if nowhere.
    """

    platform: str = "linux"
    programs: Mapping[str, str] = field(default_factory=dict)
    bwrap: tuple[int, ...] = ()
    python: tuple[int, ...] = ()
    uid: int = 1000
    drops_to: int = 0
    mapped: bool = True
    tried: bool = False
    said: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    filtered: bool = False
    libseccomp: str = ""
    cgroup: str = ""
    cgroup_version: int = 2
    bundle: bool = True
    updater: str = ""


def sandbox_rows(facts: SandboxFacts) -> list[Row]:
    """Return the rows; one that failed means that the local backend cannot run."""
    if not facts.platform.startswith("linux"):
        remedy = (
            "Use a container engine (Docker Desktop, colima, podman machine, or one on a Linux machine with "
            "DOCKER_HOST=ssh://user@host), or run bottle-fsm inside a Linux virtual machine"
        )
        return [failed(AREA, "system", f"the local backend needs Linux, this is {facts.platform}", remedy)]
    return [*_programs(facts), _python(facts), _trial(facts), _libseccomp(facts), _authorities(facts), _limits(facts)]


def diagnosis(facts: SandboxFacts) -> tuple[str, str]:
    """Return why a sandbox could not be started here, and the remedy."""
    return _forbidden(facts) or _unmapped(facts) or _surroundings(facts)


def _forbidden(facts: SandboxFacts) -> tuple[str, str] | None:
    """Return the kernel's setting that forbids it."""
    limit = facts.settings.get(MAX_NAMESPACES, "unknown")
    if limit == "0":
        return f"user namespaces are forbidden ({MAX_NAMESPACES} is 0)", _sysctl(MAX_NAMESPACES, _NAMESPACES)
    if facts.settings.get(UNPRIVILEGED) == "0":
        return f"user namespaces are forbidden ({UNPRIVILEGED} is 0)", _sysctl(UNPRIVILEGED, "1")
    if facts.settings.get(APPARMOR) == "1" and any(word in facts.said for word in _REFUSALS):
        profile = _PROFILE.format(path=facts.programs.get("bwrap") or "/usr/bin/bwrap")
        remedy = "Write this to /etc/apparmor.d/bwrap and run `apparmor_parser -r /etc/apparmor.d/bwrap`"
        return f"AppArmor forbids user namespaces ({APPARMOR} is 1)", f"{remedy}, {_ENGINE}:\n{profile}"
    if "No space left" in facts.said:
        problem = f"no user namespace is left ({MAX_NAMESPACES} is {limit}), or they are nested too deep"
        return problem, _sysctl(MAX_NAMESPACES, _NAMESPACES)
    return None


def _unmapped(facts: SandboxFacts) -> tuple[str, str] | None:
    """Return that root cannot drop here: it is root of a user namespace that lacks the user to drop to."""
    if facts.uid != 0 or facts.mapped:
        return None
    return (
        f"root's sandboxes run as uid {facts.drops_to}, which this user namespace does not have",
        f"Run bottle-fsm as an ordinary user, or map that uid (/proc/self/uid_map), {_ENGINE}",
    )


def _surroundings(facts: SandboxFacts) -> tuple[str, str]:
    """Return what it said, and what a container around it may be the cause of."""
    if not facts.container and not facts.filtered:
        return f"bubblewrap cannot start a sandbox: {facts.said}", f"Mend what it says, {_ENGINE}"
    around = [f"inside a container ({facts.container})"] if facts.container else []
    around += ["under a seccomp filter of somebody else"] if facts.filtered else []
    return f"bubblewrap cannot start a sandbox {' and '.join(around)}: {facts.said}", (
        "Start the container around this with user namespaces and /proc allowed (docker: `--security-opt "
        "seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`; podman: "
        f"`--security-opt seccomp=unconfined --security-opt unmask=ALL`), {_ENGINE}"
    )


def _sysctl(name: str, value: str) -> str:
    return (
        f"As root: `sysctl -w {name}={value}`, and for the next start "
        f"`echo {name}={value} > /etc/sysctl.d/60-bottle-fsm.conf`, {_ENGINE}"
    )


_PACKAGES: Final = {"bwrap": "bubblewrap", "setpriv": "util-linux", "unshare": "util-linux"}


def _programs(facts: SandboxFacts) -> Iterator[Row]:
    for name, package in _PACKAGES.items():
        path = facts.programs.get(name, "")
        if not path:
            yield failed(AREA, name, "is not in PATH", f"`apt-get install -y {package}`, {_ENGINE}")
        elif name == "bwrap":
            yield _bubblewrap(path, facts.bwrap)
        else:
            yield ok(AREA, name, path)


def _bubblewrap(path: str, version: tuple[int, ...]) -> Row:
    text = _dotted(version)
    if not version:
        remedy = f"`apt-get install -y --reinstall bubblewrap`, {_ENGINE}"
        return failed(AREA, "bwrap", f"{path} does not tell its version", remedy)
    if version < OLDEST_BWRAP:
        found = f"{path} is {text}; {_dotted(OLDEST_BWRAP)} or newer is needed (--disable-userns)"
        remedy = f"Take it from a newer release of your distribution (Debian 12, Ubuntu 24.04), {_ENGINE}"
        return failed(AREA, "bwrap", found, remedy)
    return ok(AREA, "bwrap", f"{path}, version {text}")


def _python(facts: SandboxFacts) -> Row:
    name = "python3"
    if not facts.python:
        found = f"{PYTHON}, which starts commands inside, is missing or does not run"
        return failed(AREA, name, found, f"`apt-get install -y python3`, {_ENGINE}")
    if facts.python < OLDEST_PYTHON:
        found = f"{PYTHON} is {_dotted(facts.python)}; {_dotted(OLDEST_PYTHON)} or newer is needed"
        return failed(AREA, name, found, f"Use a newer release of your distribution, {_ENGINE}")
    return ok(AREA, name, f"{PYTHON}, version {_dotted(facts.python)}")


def _trial(facts: SandboxFacts) -> Row:
    name = "trial"
    who = f"uid {facts.drops_to}, to which root drops" if facts.uid == 0 else f"uid {facts.uid}"
    if not facts.tried:
        return failed(AREA, name, "no sandbox could be tried", "Install what is missing, then run this again")
    if not facts.said:
        return ok(AREA, name, f"a sandbox ran, as {who}")
    problem, remedy = diagnosis(facts)
    return failed(AREA, name, problem, remedy)


def _libseccomp(facts: SandboxFacts) -> Row:
    if facts.libseccomp:
        return failed(AREA, "libseccomp", facts.libseccomp, f"`apt-get install -y libseccomp2`, {_ENGINE}")
    return ok(AREA, "libseccomp", "makes the filter of system calls")


def _authorities(facts: SandboxFacts) -> Row:
    name = "ca-certificates"
    wanted = {"the bundle in /etc/ssl/certs": facts.bundle, "update-ca-certificates": bool(facts.updater)}
    missing = [what for what, there in wanted.items() if not there]
    if missing:
        remedy = f"`apt-get install -y ca-certificates && update-ca-certificates`, {_ENGINE}"
        return failed(AREA, name, f"{' and '.join(missing)} missing", remedy)
    return ok(AREA, name, f"{facts.updater}, and the bundle in /etc/ssl/certs")


def _limits(facts: SandboxFacts) -> Row:
    if facts.cgroup:
        return ok(AREA, "limits", f"memory, processors and processes, by cgroups below {facts.cgroup}")
    found = "memory and processors are not limited, the number of processes is"
    if facts.cgroup_version != 2:  # noqa: PLR2004 - the version's number
        kernel = "cgroups of version 1 only" if facts.cgroup_version else "no cgroups"
        remedy = "Start the kernel with systemd.unified_cgroup_hierarchy=1, or use an engine for hard limits"
        return warning(AREA, "limits", f"{found}: this machine has {kernel}", remedy)
    remedy = (
        "Run it in a delegated scope: `systemd-run --user --scope -p Delegate=yes bottle-fsm apply …` (root: without "
        "--user), or use an engine for hard limits"
    )
    return warning(AREA, "limits", f"{found}: no cgroup is delegated to this user", remedy)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
