"""Everything on an engine that carries our labels, whichever launch and state root it belongs to.

Not its duty: deciding what of it may go, and the close look at one launch (`observe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.looking import owned
from bottle_fsm.model import Resource
from bottle_fsm.naming import LABEL_ROOT

_STATES: Final = {"created": "created", "running": "running", "restarting": "running", "paused": "running"}


def everything(engine: Engine, root: str | None) -> tuple[Resource, ...]:
    """Return containers, networks and volumes with all our labels, of one state root or of every."""
    filters = {"label": [LABEL_ROOT if root is None else f"{LABEL_ROOT}={root}"]}
    known = engine.endpoint()
    here = f"{known.engine_id or known.name} {known.root_dir}"
    with engine.guarded("look at the engine") as api:
        containers = api.containers(all=True, filters=filters)
        networks = api.networks(filters=filters)
        volumes = api.volumes(filters=filters).get("Volumes") or []
    found = [
        *(_resource("container", _name(item), item["Id"], item, here) for item in containers),
        *(_resource("network", item["Name"], item["Id"], item, here) for item in networks),
        *(_resource("volume", item["Name"], item["Name"], item, here) for item in volumes),
    ]
    return tuple(resource for resource in found if resource is not None)


def _name(container: Mapping[str, Any]) -> str:
    return str((container.get("Names") or ["/"])[0]).removeprefix("/")


def _resource(kind: str, name: str, object_id: str, item: Mapping[str, Any], engine: str) -> Resource | None:
    found = owned(kind, name, object_id, item.get("Labels"), engine)
    if found is None or kind != "container":
        return found
    return replace(found, state=_STATES.get(str(item.get("State", "")), "exited"))
