"""Who a sandbox is outside: never root. And where its host paths are seen from.

A launcher that runs as root drops to users that nobody else has, one for each role, before bubblewrap starts: uid 0 in
a namespace made by root is root. Those users cannot walk below root's directories, so what is bound from there is
staged first, in a mount namespace of its own. A launcher that is no root has nothing to drop, and stages nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm import naming
from bottle_fsm.errors import BackendError

FIRST_UID: Final = 1_879_048_192
"""The first one above all ranges that distributions and systemd hand out (systemd's UIDS-GIDS document)."""
_OFFSETS: Final[Mapping[str, int]] = {naming.ROLE_GUARD: 0, naming.ROLE_INTERCEPTOR: 1, naming.ROLE_AGENT: 2}
STAGE: Final = "/media"
"""An empty directory of every system, covered in a mount namespace of our own only: nothing is left on the host."""
_SCRIPT: Final = """\
set -eu
stage=$1 uid=$2 gid=$3 mount=$4 mkdir=$5 setpriv=$6 count=$7
shift 7
"$mount" -t tmpfs -o mode=0755,size=1m,nosuid,nodev bottle-fsm "$stage"
while [ "$count" -gt 0 ]; do
  if [ -d "$1" ]; then "$mkdir" -- "$2"; else : >"$2"; fi
  "$mount" --rbind -- "$1" "$2"
  shift 2
  count=$((count - 1))
done
exec "$setpriv" --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"""
"""Every program by its whole path: PATH is the sandbox's here, and may name directories that others can write to."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group on this host that a role runs as; None at both: whoever launches."""

    uid: int | None
    gid: int | None

    def own(self, *paths: Path) -> None:
        """Give files to this user, where there is one to give them to; trees with everything in them."""
        if self.uid is None or self.gid is None:
            return
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
            if path.is_dir() and not path.is_symlink():
                for folder, folders, files in os.walk(path):
                    for name in (*folders, *files):
                        os.chown(os.path.join(folder, name), self.uid, self.gid, follow_symlinks=False)  # noqa: PTH118 - many


def identity(role: str) -> Identity:
    """Return who a role is on this host."""
    if os.geteuid() != 0:
        return Identity(None, None)
    return Identity(FIRST_UID + _OFFSETS[role], FIRST_UID + _OFFSETS[role])


class Stages:
    """How host paths are written in a sandbox's command: as they are, or where they will be staged."""

    def __init__(self, who: Identity) -> None:
        self._who = who
        self._staged: dict[str, str] = {}

    def seen(self, path: str | Path) -> str:
        """Return a path as the sandbox's maker will see it.

        Raises:
            BackendError: it is below the directory that is covered.
        """
        source = str(path)
        if self._who.uid is None or source.startswith("/usr/"):
            return source
        if Path(os.path.realpath(source)).is_relative_to(STAGE):
            raise BackendError(
                f"nothing below {STAGE} can be bound by a launcher that runs as root",
                place=source,
                hint=f"Move it elsewhere, or launch as an ordinary user, who needs no {STAGE}",
            )
        return self._staged.setdefault(source, f"{STAGE}/{len(self._staged)}")

    def wrap(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return a command that stages, drops, and then is the given one. Programs in it stand by their whole paths.

        Raises:
            BackendError: one of them is missing.
        """
        command = (tool(command[0]), *command[1:])
        if self._who.uid is None:
            return command
        pairs: Iterable[str] = (word for pair in self._staged.items() for word in pair)
        script = ("/bin/sh", "-c", _SCRIPT, "bottle-fsm-stage", STAGE, str(self._who.uid), str(self._who.gid))
        tools = (tool("mount"), tool("mkdir"), tool("setpriv"))
        stage = (*script, *tools, str(len(self._staged)), *pairs, *command)
        return (tool("unshare"), "--mount", "--propagation", "slave", "--", *stage)


def tool(name: str) -> str:
    """Return the whole path of a program on the launcher's own PATH.

    Raises:
        BackendError: there is none.
    """
    found = name if name.startswith("/") else shutil.which(name)
    if found is None or not found.startswith("/"):
        raise BackendError(
            f"{name} is missing", place="local backend", hint="apt-get install -y bubblewrap util-linux coreutils"
        )
    return found


def shown(command: Sequence[str]) -> str:
    """Return a command as a person would type it."""
    return shlex.join(command)
