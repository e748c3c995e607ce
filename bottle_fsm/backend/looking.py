"""From an object as a world lists it to a resource: whose it is, by its labels. Pure; for every backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bottle_fsm import naming
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Launch, Resource


def of_launch(labels: Mapping[str, str] | None, launch: Launch) -> bool:
    """Say whether complete labels name this very launch."""
    found = naming.Labels.of(dict(labels or {}))
    return found is not None and (found.root, found.launch) == (launch.root, launch.launch)


def resource(  # noqa: PLR0913, PLR0917 - what an object is
    kind: str, name: str, object_id: str, labels: Mapping[str, str] | None, launch: Launch, roles: Iterable[str]
) -> Resource:
    """Return an object as the journal knows it; without labels of our state root it is foreign.

    A foreign one has the role whose name it stands under.
    """
    ours = naming.Labels.of(dict(labels or {}))
    if ours is None or ours.root != launch.root:
        wanted = (role for role in roles if naming.object_name(role, launch.slug) == name)
        return Resource(kind, next(wanted, ""), name, object_id, foreign=True)
    return Resource(kind, ours.role, name, object_id, launch=ours.launch, spec=ours.spec, epoch=ours.epoch)


def owned(kind: str, name: str, object_id: str, labels: Mapping[str, str] | None, engine: str) -> Resource | None:
    """Return an object with its owner as detail, for `everything`; None when its labels do not say whose it is."""
    ours = naming.Labels.of(dict(labels or {}))
    if ours is None:
        return None
    detail = {"root": ours.root, "bottle": ours.bottle, "engine": engine}
    return Resource(
        kind, ours.role, name, object_id, launch=ours.launch, spec=ours.spec, epoch=ours.epoch, detail=detail
    )


def refuse_newer(found: Iterable[Resource], launch: Launch) -> None:
    """Stop when the world shows an owner that the journal does not know.

    Raises:
        DecisionNeededError: an object carries a newer epoch than this launch: the journal is older than the world.
    """
    newer = next((r for r in found if not r.foreign and r.epoch > launch.epoch), None)
    if newer is not None:
        raise DecisionNeededError(
            f"{newer.name} was made by a later owner (epoch {newer.epoch}) than this journal knows ({launch.epoch})",
            place=launch.bottle,
            hint="The state directory was restored or copied from an earlier time: use the newer one, "
            "or remove the object by hand",
        )
