"""The /etc of a sandbox: made from nothing, with an allow-list of what programs need from the host's.

The trust store is a private copy, so that the bottle's CA goes into it and into nothing else. Not its duty: the CA.
"""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Final

from bottle_fsm.places import AGENT_GID, AGENT_HOME, AGENT_UID, AGENT_USER

HOST: Final = Path("/etc")
EVERYWHERE: Final = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "gai.conf"),
    *("protocols", "services", "debian_version", "os-release", "lsb-release"),
)
"""Names in /etc that hold nothing about this machine's users, keys or networks."""
AGENT: Final = (
    *("ssl", "ca-certificates", "ca-certificates.conf", "pki"),
    *("profile", "profile.d", "bash.bashrc", "inputrc", "terminfo", "magic", "mime.types"),
    *("java", "java-17-openjdk", "java-21-openjdk", "java-11-openjdk", "nodejs", "perl"),
    *("python3", "python3.11", "python3.12", "python3.13"),
)
"""More of the kind, for the agent's tools."""
BOUND: Final = ("alternatives",)
"""Hundreds of links that nobody changes: bound read-only where the host has them, in place of a copy."""
NETWORK: Final = ("resolv.conf", "hosts")
"""The guard needs these as well: it is the one that resolves names."""
_NEVER: Final = ("private",)
"""Below `ssl`: where keys are kept."""
_MADE: Final = Path("ssl/certs")
"""What `update-ca-certificates` makes from the certificates in /usr. Until the bottle's CA is among them, an agent
trusts nobody; only the stores of single tools in it, which are directories, are copied."""
_NSSWITCH: Final = "passwd: files\ngroup: files\nshadow: files\nhosts: files{dns}\nnetworks: files\n"


def fill_etc(target: Path, *, hostname: str, network: bool, agent: bool = True, home: str = AGENT_HOME) -> None:
    """Fill a new directory; with `network`, names are resolved as on the host. `BOUND` is left to be bound."""
    target.mkdir(mode=0o755)
    for name in (*EVERYWHERE, *(AGENT if agent else ()), *(NETWORK if network else ())):
        _copy(HOST / name, target / name)
    texts = {
        "passwd": f"root:x:0:0:root:/root:/bin/sh\n{AGENT_USER}:x:{AGENT_UID}:{AGENT_GID}::{home}:{_shell()}\n",
        "group": f"root:x:0:\n{AGENT_USER}:x:{AGENT_GID}:\n",
        "nsswitch.conf": _NSSWITCH.format(dns=" dns" if network else ""),
        "hostname": f"{hostname}\n",
        "environment": "",
        "shells": "/bin/sh\n/bin/bash\n",
    }
    if not network:
        texts["hosts"] = f"127.0.0.1 localhost {hostname}\n::1 localhost\n"
    for name, text in texts.items():
        (target / name).unlink(missing_ok=True)
        (target / name).write_text(text, encoding="ascii")
    for folder in ("profile.d", "ssl", "ssl/certs", *BOUND):
        (target / folder).mkdir(exist_ok=True, parents=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a tree; links stay links, and what not everybody on this host may read is left out.

    A launcher that is root could read everything: keys that an administrator keeps beside the certificates, too.
    """
    try:
        if not source.is_symlink() and not source.stat().st_mode & stat.S_IROTH:
            return
        if source.name in NETWORK or source.name == "localtime":
            shutil.copyfile(source.resolve(), target)
        elif source.is_dir() and not source.is_symlink():
            _copy_tree(source, target)
        elif source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_file():
            shutil.copyfile(source, target)
            target.chmod(0o644)
    except PermissionError:
        return
    except FileNotFoundError:
        return


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir(mode=0o755)
    made = source == HOST / _MADE
    for item in source.iterdir():
        if item.name not in _NEVER and not (made and (item.is_symlink() or not item.is_dir())):
            _copy(item, target / item.name)


def _shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
