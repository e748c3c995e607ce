"""What a writer says of an event, and who writes; its place in the chain is the journal's to give."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from bottle_fsm.model import Json, Resource


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has a place in the chain; see `model.Event` for the fields.

    `inherit`: launch, machine and spec that are left empty are those of the bottle's record.
    """

    kind: str
    bottle: str = ""
    launch: str = ""
    epoch: int = 0
    machine: str = ""
    spec: str = ""
    trigger: str = ""
    source: str = ""
    dest: str = ""
    attempt: int = 0
    cause: str = ""
    resources: Sequence[Resource] = ()
    evidence: Json = field(default_factory=dict)
    error: str = ""
    duration: float = 0.0
    inherit: bool = False


def actor() -> Json:
    """Say who writes: never the argument list itself, which may hold what a person mistyped into it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return {
        "uid": os.getuid(),
        "user": user,
        "pid": os.getpid(),
        "argv": hashlib.sha256("\0".join(sys.argv).encode(errors="surrogateescape")).hexdigest()[:16],
        "host": socket.gethostname(),
    }
