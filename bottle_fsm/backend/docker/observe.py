"""What is on the engine of one launch: found by label, by recorded id and by wanted name.

Not its duty: changing anything, and deciding what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bottle_fsm import naming
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import ObjectGoneError
from bottle_fsm.backend.looking import of_launch, refuse_newer, resource
from bottle_fsm.model import Launch, Observed, Resource

CONTAINERS: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
NETWORKS: Final = (naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE)
_RUNNING: Final = {"running", "restarting"}


def observe(engine: Engine, launch: Launch, kind: str = "") -> Observed:
    """Look once; at objects of one kind only, if one is given: each kind costs the engine several questions.

    Raises:
        DecisionNeededError: an object carries a newer epoch than this launch: the journal is older than the world.
    """
    with engine.guarded("look at the engine") as api:
        containers = _containers(api, launch) if kind in {"", "container"} else []
        networks = _networks(api, launch) if kind in {"", "network"} else []
        volumes = _volumes(api, launch) if kind in {"", "volume"} else []
    ids = {item["Id"] for item in containers} | {r.id for r in launch.recorded if r.kind == "container"}
    found = [
        *(_container(item, launch) for item in sorted(containers, key=_created)),
        *(_network(item, launch, ids) for item in sorted(networks, key=_created)),
        *(_volume(item, launch) for item in volumes),
    ]
    refuse_newer(found, launch)
    return Observed(tuple(found))


def _created(item: Mapping[str, Any]) -> str:
    return str(item.get("Created", ""))


def _by_label(launch: Launch) -> dict[str, list[str]]:
    return {"label": [f"{naming.LABEL_ROOT}={launch.root}"]}


def _wanted(labels: Mapping[str, str] | None, name: str, object_id: str, launch: Launch, roles: Iterable[str]) -> bool:
    """Say whether an object is this launch's, recorded, or stands under a name that this launch wants."""
    names = {naming.object_name(role, launch.slug) for role in roles}
    recorded = {resource.id for resource in launch.recorded}
    return of_launch(labels, launch) or name in names or object_id in recorded


def _containers(api: Any, launch: Launch) -> list[dict[str, Any]]:
    # All of the engine's, a few dozen as a rule: by label and by name would be two questions.
    listed = {item["Id"]: item for item in api.containers(all=True)}
    found = []
    for object_id, item in listed.items():
        name = (item.get("Names") or ["/"])[0].removeprefix("/")
        if _wanted(item.get("Labels"), name, object_id, launch, CONTAINERS):
            found += _inspected(api.inspect_container, object_id)
    seen = set(listed)
    for recorded in launch.recorded:
        if recorded.kind == "container" and recorded.id not in seen and recorded.state != "absent":
            found += _inspected(api.inspect_container, recorded.id)
    return found


def _networks(api: Any, launch: Launch) -> list[dict[str, Any]]:
    found = []
    for item in api.networks():  # an engine has a few dozen at most: one question instead of two
        if _wanted(item.get("Labels"), item["Name"], item["Id"], launch, NETWORKS):
            found += _inspected(api.inspect_network, item["Id"])
    return found


def _volumes(api: Any, launch: Launch) -> list[dict[str, Any]]:
    listed = api.volumes(filters=_by_label(launch)).get("Volumes") or []
    return [item for item in listed if _wanted(item.get("Labels"), item["Name"], item["Name"], launch, ())]


def _inspected(inspect: Any, object_id: str) -> list[dict[str, Any]]:
    """Inspect what was listed a moment ago; it may be gone by now."""
    from docker.errors import NotFound  # noqa: PLC0415 - start-up budget

    try:
        return [inspect(object_id)]
    except (NotFound, ObjectGoneError):
        return []


def _resource(kind: str, name: str, object_id: str, labels: Mapping[str, str] | None, launch: Launch) -> Resource:
    return resource(kind, name, object_id, labels, launch, (*CONTAINERS, *NETWORKS))


def _with(resource: Resource, **changes: Any) -> Resource:
    return Resource.from_json({**resource.to_json(), **changes})


def _container(item: dict[str, Any], launch: Launch) -> Resource:
    state = item.get("State") or {}
    config = item.get("Config") or {}
    status = str(state.get("Status", ""))
    health = (state.get("Health") or {}).get("Status", "")
    detail: dict[str, Any] = {"status": status, "image": item.get("Image", "")}
    if status not in _RUNNING and status != "created":
        detail["exit_code"] = state.get("ExitCode")
    detail["addresses"] = {
        name: network.get("IPAddress", "")
        for name, network in sorted(((item.get("NetworkSettings") or {}).get("Networks") or {}).items())
    }
    return _with(
        _resource("container", str(item["Name"]).removeprefix("/"), item["Id"], config.get("Labels"), launch),
        state="created" if status == "created" else "running" if status in _RUNNING else "exited",
        healthy={"healthy": True, "unhealthy": False}.get(health),
        detail=detail,
    )


def _network(item: dict[str, Any], launch: Launch, container_ids: set[str]) -> Resource:
    members = sorted(item.get("Containers") or {})
    pools = (item.get("IPAM") or {}).get("Config") or []
    detail = {
        "internal": bool(item.get("Internal")),
        "subnet": str(pools[0].get("Subnet", "")) if pools else "",
        "members": members,
        "ours_inside": bool(container_ids & set(members)),
    }
    return _with(_resource("network", item["Name"], item["Id"], item.get("Labels"), launch), detail=detail)


def _volume(item: dict[str, Any], launch: Launch) -> Resource:
    return _resource("volume", item["Name"], item["Name"], item.get("Labels"), launch)
