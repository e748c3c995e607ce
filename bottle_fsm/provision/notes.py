"""Notes: small JSON files in the agent's home that say what was put there.

The agent may change or remove them; then something is done once more or left lying, and nothing else happens.
"""

from __future__ import annotations

import json
from typing import Any

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.model import Json, canonical
from bottle_fsm.provision.files import ensure

_MODE = 0o600


def read_note(bottle: Bottle, path: str) -> Json:
    """Return a note; an empty object when there is none, or none that makes sense."""
    try:
        value: Any = json.loads(bottle.read_file(path))
    except (ProvisionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_note(bottle: Bottle, path: str, value: Json) -> None:
    """Write a note, unless it already says exactly this."""
    ensure(bottle, path, canonical(value), mode=_MODE, what=path)
