"""What is in the simulated world of one launch: found by label, and by wanted name.

Not its duty: changing anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.backend.looking import of_launch, owned, refuse_newer, resource
from bottle_fsm.model import Launch, Observed, Resource

PROXIES: Final = (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE, naming.ROLE_GUARD)
ROLES: Final = (*PROXIES, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)


def look(world: FakeWorld, launch: Launch) -> Observed:
    """Look once: this launch's objects, and whatever stands under a name that it wants.

    An object under such a name is ours when our state root made it, be it for an earlier launch; else it is foreign.

    Raises:
        DecisionNeededError: see `refuse_newer`.
    """
    wanted = {naming.object_name(role, launch.slug) for role in ROLES}
    listed = world.objects(launch=launch.launch, names=wanted)
    found = [_resource(o, launch) for o in listed if o.name in wanted or of_launch(o.labels, launch)]
    refuse_newer(found, launch)
    return Observed(tuple(found))


def everything(world: FakeWorld, root: str | None) -> tuple[Resource, ...]:
    """Return all objects that carry all our labels, of one state root or of every."""
    engine = world.identity()
    found = [(o, owned(o.kind, o.name, o.id, o.labels, engine)) for o in world.objects()]
    return tuple(replace(r, state=o.state) for o, r in found if r is not None and root in {None, r.detail["root"]})


def one(world: FakeWorld, launch: Launch, role: str) -> FakeObject | None:
    """Return this launch's object of a role; None when there is none."""
    found = (o for o in world.objects(launch=launch.launch) if of_launch(o.labels, launch))
    return next((o for o in found if o.labels[naming.LABEL_ROLE] == role), None)


def gone(found: Resource) -> Resource:
    """Return the record of an object that was removed."""
    return replace(found, state="absent", healthy=None, detail={})


def _resource(found: FakeObject, launch: Launch) -> Resource:
    return replace(
        resource(found.kind, found.name, found.id, found.labels, launch, ROLES),
        state=found.state,
        healthy=found.healthy,
        detail={} if found.exit_code is None else {"exit_code": found.exit_code},
    )
