"""Put files of the agent's home in place, looking before writing, and keep what the agent wrote itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.places import AGENT_HOME, AGENT_UID
from bottle_fsm.provision.shell import checked

STATE_DIR: Final = f"{AGENT_HOME}/.bottle"
"""Small notes of ours in the agent's home: what was put there, so that it can be taken away again."""
SAVED_DIR: Final = f"{STATE_DIR}/saved"
"""Where a file or tree goes that we must replace although somebody inside had changed it."""

_LOOK: Final = """
for file; do
  if [ -f "$file" ] && [ ! -L "$file" ]; then
    printf '%s %s\\n' "$(stat -c '%a %u' "$file")" "$(sha256sum < "$file" | cut -d' ' -f1)"
  else echo '- - -'; fi
done
"""
_SAVE: Final = 'umask 077; mkdir -p "$2" && cp -p "$1" "$2/$(basename "$1").$3"'


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of the agent's as it shall be."""

    path: str
    content: bytes
    mode: int

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return sha256(self.content)


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies at a path inside: octal mode, owner's uid and SHA-256, all `-` when there is no plain file."""

    mode: str
    owner: str
    digest: str

    @property
    def present(self) -> bool:
        """Whether there is a plain file at all."""
        return self.digest != "-"

    def matches(self, wanted: Wanted) -> bool:
        """Tell whether a file is exactly as wanted: content, mode, and the agent's own."""
        return self == Seen(f"{wanted.mode:o}", str(AGENT_UID), wanted.digest)


def sha256(content: bytes) -> str:
    """Return the SHA-256 hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def look(bottle: Bottle, wanted: Sequence[Wanted], *, what: str) -> dict[str, Seen]:
    """Return what lies at the path of each wanted file, in one exec."""
    result = checked(bottle, _LOOK, *(file.path for file in wanted), what=what)
    lines = result.text.splitlines()
    return {file.path: Seen(*line.split(" ")) for file, line in zip(wanted, lines, strict=True)}


def put(bottle: Bottle, wanted: Sequence[Wanted], seen: Mapping[str, Seen]) -> list[str]:
    """Write every file that is not as wanted, and return the paths of those."""
    changed = [file for file in wanted if not seen[file.path].matches(file)]
    for file in changed:
        bottle.copy_in(file.content, file.path, mode=file.mode, owner="agent")
    return [file.path for file in changed]


def save(bottle: Bottle, path: str, seen: Seen, *, what: str) -> None:
    """Keep a copy of a file that is to be replaced."""
    checked(bottle, _SAVE, path, SAVED_DIR, seen.digest[:8], what=what)


def require(bottle: Bottle, wanted: Sequence[Wanted], *, what: str) -> None:
    """Look whether every file is as wanted.

    Raises:
        ProvisionError: one is not; the message says what differs, not what the file holds.
    """
    found = look(bottle, wanted, what=what)
    for file in wanted:
        seen = found[file.path]
        if seen.matches(file):
            continue
        if not seen.present:
            raise ProvisionError(f"{file.path} is not there", place=what)
        if seen.digest != file.digest:
            raise ProvisionError(f"{file.path} holds something else", place=what)
        raise ProvisionError(f"{file.path} has mode {seen.mode} and owner {seen.owner}", place=what)
