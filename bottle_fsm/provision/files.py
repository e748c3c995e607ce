"""Put single files of the agent's home in place, looking before writing, and keep what the agent wrote itself."""

from __future__ import annotations

import hashlib
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
_PARENT: Final = """
umask 077
mkdir -p "$(dirname "$1")"
# a link in the file's place would be followed by nobody, but hide what is really read
[ ! -L "$1" ] || rm -f "$1"
"""
_SAVE: Final = 'umask 077; mkdir -p "$2" && cp -p "$1" "$2/$(basename "$1").$3"'


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


def sha256(content: bytes) -> str:
    """Return the SHA-256 hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def look(bottle: Bottle, *paths: str, what: str) -> list[Seen]:
    """Return what lies at each path, in one exec."""
    result = checked(bottle, _LOOK, *paths, what=what)
    return [Seen(*line.split(" ")) for line in result.text.splitlines()]


def is_ours(seen: Seen, content: bytes, mode: int) -> bool:
    """Tell whether a file is exactly as wanted: content, mode, and the agent's own."""
    return seen == Seen(f"{mode:o}", str(AGENT_UID), sha256(content))


def ensure(  # noqa: PLR0913 - a file: where, what, how, and what was there last
    bottle: Bottle, path: str, content: bytes, *, mode: int, what: str, last: str = ""
) -> bool:
    """Make a file of the agent's hold exactly this; return whether anything had to be done.

    A file that is neither as wanted nor as we left it (`last`, its digest) is kept in `SAVED_DIR` before it is
    replaced: the agent may have written into it.
    """
    seen = look(bottle, path, what=what)[0]
    if is_ours(seen, content, mode):
        return False
    if seen.present and last and seen.digest not in {last, sha256(content)}:
        checked(bottle, _SAVE, path, SAVED_DIR, seen.digest[:8], what=what)
    checked(bottle, _PARENT, path, what=what)
    bottle.copy_in(content, path, mode=mode, owner="agent")
    return True


def require(bottle: Bottle, path: str, content: bytes, *, mode: int, what: str) -> None:
    """Look whether a file of the agent's holds exactly this.

    Raises:
        ProvisionError: it does not; the message says what differs, not what the file holds.
    """
    seen = look(bottle, path, what=what)[0]
    if is_ours(seen, content, mode):
        return
    if not seen.present:
        raise ProvisionError(f"{path} is not there", place=what)
    if seen.digest != sha256(content):
        raise ProvisionError(f"{path} holds something else", place=what)
    raise ProvisionError(f"{path} has mode {seen.mode} and owner {seen.owner}", place=what)
