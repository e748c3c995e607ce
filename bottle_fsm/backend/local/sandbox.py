"""The command line of a bubblewrap sandbox. Pure: what is asked for in, words out.

Its own user, pid, ipc, uts, cgroup and (but for the guard) network namespaces; system directories read-only; everything
else of the host is absent unless it is bound by name. Secrets never stand here: a command line is public.
Not its duty: users and limits (`confine`), the system calls (`seccomp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local.places import CODE
from bottle_fsm.places import RUN_DIR

SECCOMP: Final = "{seccomp}"
INFO: Final = "{info}"
VARIABLES: Final = "{variables}"
CONTROL: Final = "{control}"
"""Placeholders for the numbers of file descriptors, which only the supervisor knows."""
SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Beside /usr: links into it on a merged system, directories on another."""
_RUN_BYTES: Final = 16 << 20
"""Of `places.RUN_DIR`: small files only."""
_SHARED_BYTES: Final = 64 << 20
"""Of /dev/shm: what engines give."""
SCRATCH_BYTES: Final = 256 << 20
ROOTS_PLACES: Final = {"trust": "/usr/local/share/ca-certificates", "marks": "/var/lib/bottle"}
"""Directories of the agent's object that only our own short commands may write, as they may write /etc."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path that appears inside at `target`."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a sandbox is.

    Attributes:
        hostname: its name for itself. uid, gid: the user inside; outside it is whoever starts it, never root.
        etc: host directory that becomes /etc. binds: further host paths, an allow-list.
        network: shares the host's network; the guard's alone.
        scratch: bytes that each of /tmp, /run and /var may hold; they live in memory, and unbounded take half of it.
        maintenance: /etc and `ROOTS_PLACES` can be written: for our own short commands, never the agent's.
    """

    hostname: str
    uid: int
    gid: int
    etc: str
    binds: tuple[Bind, ...] = ()
    network: bool = False
    scratch: int = SCRATCH_BYTES
    maintenance: bool = False


def argv(box: Sandbox, *, links: Mapping[str, str]) -> tuple[str, ...]:
    """Return bubblewrap's words up to the program; `links` says what each of `SYSTEM` is: a link's target, or empty."""
    words = ["bwrap", "--unshare-all", *(["--share-net"] if box.network else [])]
    words += ["--unshare-user", "--disable-userns", "--assert-userns-disabled"]
    words += ["--uid", str(box.uid), "--gid", str(box.gid), "--hostname", box.hostname]
    words += ["--cap-drop", "ALL", "--new-session", "--seccomp", SECCOMP, "--args", VARIABLES]
    # A short one ends with its launcher; a long one is recorded before it begins, and its first process is our own.
    words += ["--die-with-parent"] if box.maintenance else ["--as-pid-1", "--info-fd", INFO]
    words += ["--ro-bind", "/usr", "/usr"]
    for path, target in links.items():
        words += ["--symlink", target, path] if target else ["--ro-bind", path, path]
    # Names in /dev are the system's: first processes open /dev/ptmx by a link, and the agent would own its directory.
    shared = _in_memory("/dev/shm", "1777", _SHARED_BYTES)  # noqa: S108 - inside
    words += ["--proc", "/proc", "--dev", "/dev", *shared, "--remount-ro", "/dev"]
    for path, mode in (("/tmp", "1777"), ("/run", "0755"), ("/var", "0755")):  # noqa: S108 - inside
        words += _in_memory(path, mode, box.scratch)
    words += ["--perms", "1777", "--dir", "/var/tmp", "--symlink", "/run", "/var/run"]  # noqa: S108 - inside
    words += [*_in_memory(RUN_DIR, "0700", _RUN_BYTES), "--perms", "0755", "--dir", CODE]
    words += ["--bind" if box.maintenance else "--ro-bind", box.etc, "/etc"]
    for bind in box.binds:
        words += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
    return (*words, "--remount-ro", "/", "--")


def _in_memory(path: str, mode: str, size: int) -> list[str]:
    return ["--perms", mode, "--size", str(size), "--tmpfs", path]


def variables(env: Mapping[str, str]) -> bytes:
    """Return what bubblewrap reads from `VARIABLES`: the environment inside, and nothing of the one outside.

    It must not be the environment of bubblewrap itself, nor of what drops root's power before it: a manifest could name
    a library there that they would load.
    """
    words = ["--clearenv", *(word for name, value in env.items() for word in ("--setenv", name, value))]
    return "".join(f"{word}\0" for word in words).encode("utf-8", "surrogateescape")


def system_links() -> dict[str, str]:
    """Return what each of `SYSTEM` is on this host: a link's target, empty for a directory; absent ones left out."""
    found = {}
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = ""
    return found
