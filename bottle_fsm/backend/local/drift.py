"""What only a look inside running sandboxes shows: are they still as promised.

Looks only. Not its duty: objects that are missing; `plan.diff` finds those.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.local import health
from bottle_fsm.backend.local.hands import handle, health_socket
from bottle_fsm.backend.local.look import one
from bottle_fsm.backend.local.plan import LocalBottlePlan
from bottle_fsm.backend.local.world import LocalObject, LocalWorld
from bottle_fsm.backend.promises import broken
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import DriftError
from bottle_fsm.model import Launch

_CERTIFICATE_BYTES: Final = 1 << 16


def find_drift(world: LocalWorld, plan: LocalBottlePlan, launch: Launch) -> str:
    """Say what differs, in plain words; empty when all is as promised."""
    interceptor, agent = (one(world, launch, role) for role in (naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT))
    if interceptor is None or agent is None:
        return "a sandbox is gone"
    stopped = [found.name for found in (interceptor, agent) if found.state != "running"]
    if stopped:
        return f"not running: {', '.join(stopped)}"
    return broken(
        plan,
        launch,
        handle(agent),
        health=health.ask(health_socket(world, plan.slug, naming.ROLE_INTERCEPTOR)),
        certificate=lambda: certificate(interceptor),
    )


def certificate(interceptor: LocalObject) -> bytes:
    """Return the CA's certificate by its exact path on this host; the key beside it is never read.

    Raises:
        DriftError: there is none.
    """
    path = interceptor.directory / "state" / Path(egress_files.CA_CERT).name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_CERTIFICATE_BYTES)
    except OSError as error:
        raise DriftError(f"has no certificate of its CA: {error}", place=interceptor.name) from error
