"""What is in the simulated world of one launch: found by label, and by wanted name.

Not its duty: changing anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.naming import Labels

PROXIES: Final = (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE, naming.ROLE_GUARD)
ROLES: Final = (*PROXIES, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)


def look(world: FakeWorld, launch: Launch) -> Observed:
    """Look once: this launch's objects, and whatever stands under a name that it wants.

    An object under such a name is ours when our state root made it, be it for an earlier launch; else it is foreign.

    Raises:
        DecisionNeededError: an object carries a newer epoch than this launch: the journal is older than the world.
    """
    wanted = {naming.object_name(role, launch.slug) for role in ROLES}
    listed = world.objects(launch=launch.launch, names=wanted)
    found = [_resource(o, launch) for o in listed if o.name in wanted or _of_launch(o, launch)]
    newer = next((r for r in found if not r.foreign and r.epoch > launch.epoch), None)
    if newer is not None:
        raise DecisionNeededError(
            f"{newer.name} was made by a later owner (epoch {newer.epoch}) than this journal knows ({launch.epoch})",
            place=launch.bottle,
            hint="Use the newer state directory, or remove the object by hand.",
        )
    return Observed(tuple(found))


def everything(world: FakeWorld, root: str | None) -> tuple[Resource, ...]:
    """Return all objects that carry all our labels, of one state root or of every."""
    engine = world.identity()
    found = []
    for item in world.objects():
        labels = Labels.of(item.labels)
        if labels is not None and root in {None, labels.root}:
            owner = {"root": labels.root, "bottle": labels.bottle, "engine": engine}
            found.append(replace(_labelled(item, labels), detail=owner))
    return tuple(found)


def one(world: FakeWorld, launch: Launch, role: str) -> FakeObject | None:
    """Return this launch's object of a role; None when there is none."""
    found = (
        o for o in world.objects(launch=launch.launch) if _of_launch(o, launch) and o.labels[naming.LABEL_ROLE] == role
    )
    return next(found, None)


def _role(found: FakeObject) -> str:
    return found.labels[naming.LABEL_ROLE]


def gone(found: Resource) -> Resource:
    """Return the record of an object that was removed."""
    return replace(found, state="absent", healthy=None, detail={})


def _of_launch(found: FakeObject, launch: Launch) -> bool:
    labels = Labels.of(found.labels)
    return labels is not None and (labels.root, labels.launch) == (launch.root, launch.launch)


def _resource(found: FakeObject, launch: Launch) -> Resource:
    labels = Labels.of(found.labels)
    if labels is None or labels.root != launch.root:
        roles = (role for role in ROLES if naming.object_name(role, launch.slug) == found.name)
        return Resource(found.kind, next(roles, ""), found.name, found.id, state=found.state, foreign=True)
    return _labelled(found, labels)


def _labelled(found: FakeObject, labels: Labels) -> Resource:
    return Resource(
        kind=found.kind,
        role=labels.role,
        name=found.name,
        id=found.id,
        launch=labels.launch,
        spec=labels.spec,
        epoch=labels.epoch,
        state=found.state,
        healthy=found.healthy,
        detail={} if found.exit_code is None else {"exit_code": found.exit_code},
    )
