"""Which machine, user and process world this is: the local backend's endpoint, recorded and compared later.

A changed boot is no other endpoint: it proves that every recorded process is gone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local import proc
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Json

_ANYWHERE: Final = "198.51.100.1"
"""An address that belongs to nobody (RFC 5737): the route to it is the route to everybody."""
_MACHINE_IDS: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def endpoint() -> Json:
    """Return what tells this place from others."""
    return {
        "url": "local",
        "machine": _machine(),
        "uid": os.geteuid(),
        "boot": proc.boot_id(),
        "pidns": Path("/proc/self/ns/pid").stat().st_ino,
    }


def check_endpoint(recorded: Json, *, place: str) -> None:
    """See that a launch was made here.

    Raises:
        DecisionNeededError: another machine or user made it, or another pid namespace of this very boot.
    """
    now = endpoint()
    differing = [name for name in ("machine", "uid") if recorded.get(name) != now[name]]
    if recorded.get("boot") == now["boot"] and recorded.get("pidns") != now["pidns"]:
        differing.append("pidns")
    if differing:
        named = ", ".join(f"{name} was {recorded.get(name)}, is {now[name]}" for name in differing)
        raise DecisionNeededError(
            f"this launch was made by another place than this one: {named}",
            place=place,
            hint="Run the command where `apply` ran: its processes cannot be seen from here.",
        )


def own_address() -> str:
    """Return the address by which this machine reaches others, empty when it reaches none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ANYWHERE, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _machine() -> str:
    for path in _MACHINE_IDS:
        try:
            return path.read_text(encoding="ascii").strip()
        except OSError:
            continue
    return ""
