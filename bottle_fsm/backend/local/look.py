"""What is in the local world of one launch: found by label, by wanted name, and by what the journal recorded.

Not its duty: changing anything.
"""

from __future__ import annotations

from dataclasses import replace

from bottle_fsm import naming
from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.plan import ROLES
from bottle_fsm.backend.local.world import LocalObject, LocalWorld
from bottle_fsm.backend.looking import of_launch, owned, refuse_newer, resource
from bottle_fsm.model import Launch, Observed, Resource


def look(world: LocalWorld, launch: Launch) -> Observed:
    """Look once: this launch's objects, and whatever stands under a name that it wants.

    Raises:
        DecisionNeededError: see `refuse_newer`.
    """
    wanted = {naming.object_name(role, launch.slug) for role in ROLES if launch.slug}
    recorded = {r.id for r in launch.recorded}
    listed = [o for o in world.objects() if o.name in wanted or o.id in recorded or of_launch(o.labels, launch)]
    found = [seen(o, launch) for o in listed]
    known = {r.id for r in found}
    found += [replace(r, state="running") for r in launch.recorded if r.id not in known and _lives(r)]
    refuse_newer(found, launch)
    return Observed(tuple(found))


def everything(world: LocalWorld, root: str | None) -> tuple[Resource, ...]:
    """Return all objects that carry all our labels, of one state root or of every."""
    found = [(o, owned(o.kind, o.name, o.id, o.labels, "local")) for o in world.objects()]
    return tuple(replace(r, state=o.state) for o, r in found if r is not None and root in {None, r.detail["root"]})


def one(world: LocalWorld, launch: Launch, role: str) -> LocalObject | None:
    """Return this launch's object of a role; None when there is none."""
    found = (o for o in world.objects() if of_launch(o.labels, launch))
    return next((o for o in found if o.labels[naming.LABEL_ROLE] == role), None)


def seen(found: LocalObject, launch: Launch) -> Resource:
    """Return an object as the journal knows it; a sandbox's first process is part of what is recorded."""
    detail = {} if found.exit_code is None else {"exit_code": found.exit_code}
    return replace(
        resource(found.kind, found.name, found.id, found.labels, launch, ROLES),
        state=found.state,
        detail={**detail, "init": found.init} if found.init else detail,
    )


def _lives(recorded: Resource) -> bool:
    """Say whether a recorded sandbox runs on although its directory and its supervisor are gone."""
    if recorded.kind != "process" or recorded.state == "absent":
        return False
    return proc.is_alive(proc.Known.from_json(recorded.detail.get("init", {})))
