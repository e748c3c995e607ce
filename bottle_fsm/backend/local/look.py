"""What is in the local world of one launch: found by label, by wanted name, and by what the journal recorded.

Not its duty: changing anything.
"""

from __future__ import annotations

from dataclasses import replace

from bottle_fsm import naming
from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.plan import ROLES
from bottle_fsm.backend.local.world import LocalObject, LocalWorld
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.naming import Labels


def look(world: LocalWorld, launch: Launch) -> Observed:
    """Look once: this launch's objects, and whatever stands under a name that it wants.

    Raises:
        DecisionNeededError: an object carries a newer epoch than this launch: the journal is older than the world.
    """
    wanted = {naming.object_name(role, launch.slug) for role in ROLES if launch.slug}
    objects = world.objects()
    recorded = {r.id for r in launch.recorded}
    found = [resource(o, launch) for o in objects if o.name in wanted or o.id in recorded or _of_launch(o, launch)]
    known = {r.id for r in found}
    found += [_remains(r) for r in launch.recorded if r.id not in known and _lives(r)]
    newer = next((r for r in found if not r.foreign and r.epoch > launch.epoch), None)
    if newer is not None:
        raise DecisionNeededError(
            f"{newer.name} was made by a later owner (epoch {newer.epoch}) than this journal knows ({launch.epoch})",
            place=launch.bottle,
            hint="Use the newer state directory, or remove the object by hand.",
        )
    return Observed(tuple(found))


def everything(world: LocalWorld, root: str | None) -> tuple[Resource, ...]:
    """Return all objects that carry all our labels."""
    found = []
    for item in world.objects():
        labels = Labels.of(dict(item.labels))
        if labels is not None and root in {None, labels.root}:
            owner = {"root": labels.root, "bottle": labels.bottle, "engine": "local"}
            found.append(replace(_labelled(item, labels), detail=owner))
    return tuple(found)


def one(world: LocalWorld, launch: Launch, role: str) -> LocalObject | None:
    """Return this launch's object of a role; None when there is none."""
    found = (o for o in world.objects() if _of_launch(o, launch) and o.labels[naming.LABEL_ROLE] == role)
    return next(found, None)


def resource(found: LocalObject, launch: Launch) -> Resource:
    """Return an object as the journal knows it; one without our labels is foreign."""
    labels = Labels.of(dict(found.labels))
    if labels is None or labels.root != launch.root:
        roles = (role for role in ROLES if naming.object_name(role, launch.slug) == found.name)
        return Resource(found.kind, next(roles, ""), found.name, found.id, state=found.state, foreign=True)
    return _labelled(found, labels)


def _of_launch(found: LocalObject, launch: Launch) -> bool:
    labels = Labels.of(dict(found.labels))
    return labels is not None and (labels.root, labels.launch) == (launch.root, launch.launch)


def _labelled(found: LocalObject, labels: Labels) -> Resource:
    detail = {} if found.exit_code is None else {"exit_code": found.exit_code}
    return Resource(
        kind=found.kind,
        role=labels.role,
        name=found.name,
        id=found.id,
        launch=labels.launch,
        spec=labels.spec,
        epoch=labels.epoch,
        state=found.state,
        detail={**detail, "init": found.init} if found.init else detail,
    )


def _lives(recorded: Resource) -> bool:
    """Say whether a recorded sandbox runs on although its directory and its supervisor are gone."""
    if recorded.kind != "process" or recorded.state == "absent":
        return False
    return proc.is_alive(proc.Known.from_json(recorded.detail.get("init", {})))


def _remains(recorded: Resource) -> Resource:
    return replace(recorded, state="running")
