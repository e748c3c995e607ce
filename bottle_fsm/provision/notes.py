"""Notes: small JSON files in the agent's home that say what was put there.

The agent may change or remove them; then something is done once more or left lying, and nothing else happens.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.model import Json, canonical
from bottle_fsm.provision.shell import shell

_MODE: Final = 0o600
_READ: Final = '[ -L "$1" ] || cat "$1" 2>/dev/null'


def read_note(bottle: Bottle, path: str) -> Json:
    """Return a note; an empty object when there is none, or none that makes sense."""
    try:
        value: Any = json.loads(shell(bottle, _READ, path).stdout)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def write_note(bottle: Bottle, path: str, value: Json, *, before: Json) -> None:
    """Write a note, unless what was read `before` already says exactly this."""
    if value != before:
        bottle.copy_in(canonical(value), path, mode=_MODE, owner="agent")
