"""FakeWorld: a simulated engine. Its objects live in one JSON file, written before each reply, shared by processes.

Not its duty: knowing what a bottle is. It makes, starts and removes labelled objects, slowly or wrongly if told so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bottle_fsm.errors import BackendError, EngineUnavailableError, NameTakenError, TransientError
from bottle_fsm.model import Json
from bottle_fsm.naming import LABEL_LAUNCH, LABEL_ROLE

VOLATILE: Final = "/run/"
"""What lies below it inside a container lives on tmpfs: it goes when the container stops."""

Mishap = Literal["transient", "unavailable", "lose_reply", "late", "exits", "refuse"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        op: `create`, `start`, `stop`, `remove`, `put` or `logs`; role: of which object, empty for any.
        mishap: `transient` (nothing happened), `unavailable` (the engine is gone), `lose_reply` (done, but an error
            comes back), `late` (an error comes back, and it is done `after` seconds later), `exits` (a started object
            ends with code 1), `refuse` (a permanent error).
        times: how often. after: seconds, for `late`.
    """

    op: str
    mishap: Mishap
    role: str = ""
    times: int = 1
    after: float = 0.05


@dataclass(slots=True)
class FakeObject:
    """One object of the simulated engine."""

    id: str
    kind: str
    name: str
    labels: dict[str, str]
    state: str = "created"
    healthy: bool | None = None
    exit_code: int | None = None
    networks: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


class FakeWorld:
    """The simulated engine, reached through its file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    # -- what an engine answers --------------------------------------------------------------------------------------

    def identity(self) -> str:
        """Return the engine's id; asking makes no file."""
        if not self._path.exists():
            return _identity(self._path)
        with self._open() as state:
            return str(state["engine"])

    def objects(self, *, launch: str = "", names: Collection[str] = ()) -> list[FakeObject]:
        """Return objects, oldest first: all, or those of a launch or with one of the names; asking makes no file."""
        if not self._path.exists():
            return []
        with self._open() as state:
            self._reply(state, "list", "")
            found = state["objects"].values()
            if launch or names:
                found = [o for o in found if o["labels"].get(LABEL_LAUNCH) == launch or o["name"] in names]
            return [FakeObject(**o) for o in found]

    def create(self, kind: str, name: str, labels: dict[str, str], *, networks: list[str] | None = None) -> str:
        """Make an object and return its id.

        Raises:
            NameTakenError: a container of this name exists. Networks may share a name, as on real engines.
        """
        with self._open() as state:
            role = labels.get("bottle-fsm.role", "")
            taken = [o for o in state["objects"].values() if o["name"] == name and o["kind"] == kind]
            if taken and kind == "container":
                raise NameTakenError(f"the name {name} is in use by {taken[0]['id'][:12]}")
            coming = [p["change"].get("put_object", {}).get("name") for p in state["pending"]]
            if name in coming and kind == "container":
                raise TransientError(f"the name {name} is reserved by a request in flight")
            made = FakeObject(uuid.uuid4().hex, kind, name, labels, networks=networks or [])
            if kind != "container":
                made.state = "present"
            self._act(state, "create", role, {"put_object": asdict(made)})
            return made.id

    def start(self, object_id: str, *, healthy: bool | None = None) -> None:
        """Start a container."""
        with self._open() as state:
            role = self._role(state, object_id)
            change: Json = {"state": "running", "healthy": healthy, "exit_code": None}
            if self._takes(state, "start", role, "exits"):
                change = {"state": "exited", "healthy": None, "exit_code": 1}
            self._act(state, "start", role, {"change": [object_id, change]})

    def stop(self, object_id: str) -> None:
        """Stop a container; what is on its tmpfs goes with it."""
        with self._open() as state:
            change: Json = {"state": "exited", "healthy": None, "exit_code": 137}
            self._act(state, "stop", self._role(state, object_id), {"change": [object_id, change]})

    def remove(self, object_id: str) -> None:
        """Remove an object; one that is gone already is fine.

        Raises:
            BackendError: a network still has members.
        """
        with self._open() as state:
            members = [o["name"] for o in state["objects"].values() if object_id in o["networks"]]
            if members:
                raise BackendError(f"network {object_id[:12]} has members: {', '.join(members)}")
            self._act(state, "remove", self._role(state, object_id), {"drop": object_id})

    def put(self, object_id: str, path: str, text: str) -> None:
        """Write a file inside a container."""
        with self._open() as state:
            role = self._role(state, object_id)
            self._act(state, "put", role, {"file": [object_id, path, text]})

    def file(self, object_id: str, path: str) -> str | None:
        """Return a file's text; None when there is none."""
        with self._open() as state:
            found = state["objects"].get(object_id)
            return None if found is None else found["files"].get(path)

    def paths(self, object_id: str) -> list[str]:
        """Return the paths of all files inside a container."""
        with self._open() as state:
            found = state["objects"].get(object_id)
            return [] if found is None else sorted(found["files"])

    def log(self, launch: str, role: str) -> str:
        """Return what the containers of a launch and role wrote; empty when nothing was simulated."""
        if not self._path.exists():
            return ""
        with self._open() as state:
            self._reply(state, "logs", role)
            objects, logs = state["objects"], state.get("logs", {})
            mine = [i for i, o in objects.items() if o["labels"].get(LABEL_LAUNCH) == launch and _role_of(o) == role]
            return "".join(logs.get(object_id, "") for object_id in mine)

    # -- what a test does to it --------------------------------------------------------------------------------------

    def say(self, object_id: str, text: str) -> None:
        """Let a container write something to its log, which goes with it."""
        with self._open() as state:
            logs = state.setdefault("logs", {})
            logs[object_id] = logs.get(object_id, "") + text

    def forget_said(self, object_id: str, count: int) -> None:
        """Throw the first characters of a container's log away, as engines do with a long one."""
        with self._open() as state:
            state["logs"][object_id] = state["logs"][object_id][count:]

    def inject(self, fault: Fault) -> None:
        """Let something go wrong from now on."""
        with self._open() as state:
            state["faults"].append(asdict(fault))

    def slow_down(self, seconds: float) -> None:
        """Let every reply take so long."""
        with self._open() as state:
            state["latency"] = seconds

    def restart(self, *, identity: bool = False) -> None:
        """Restart the engine: everything that ran has stopped; with `identity` it is another engine."""
        with self._open() as state:
            for found in state["objects"].values():
                if found["state"] == "running":
                    _end(found, {"state": "exited", "healthy": None, "exit_code": 137})
            if identity:
                state["engine"] = uuid.uuid4().hex

    # -- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[Json]:
        """Lock the world, apply what became due, hand it out, and write it back before anybody gets a reply."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            state: Json = json.loads(text) if text else _empty(self._path)
            _apply_due(state)
            pause = float(state["latency"])
            try:
                yield state
            finally:
                file.seek(0)
                file.write(json.dumps(state))
                file.truncate()
                file.flush()
        if pause:
            time.sleep(pause)

    def _act(self, state: Json, op: str, role: str, change: Json) -> None:
        """Apply a change, unless a fault says otherwise."""
        self._reply(state, op, role)
        fault = _take(state, op, role, {"late", "lose_reply", "refuse"})
        if fault is None:
            _apply(state, change)
            return
        if fault["mishap"] == "refuse":
            raise BackendError(f"the engine refuses to {op} {role}")
        if fault["mishap"] == "late":
            state["pending"].append({"due": time.time() + fault["after"], "change": change})
        else:
            _apply(state, change)
        raise TransientError(f"{op} {role}: the engine's reply was lost")

    def _reply(self, state: Json, op: str, role: str) -> None:
        if _take(state, op, role, {"unavailable"}):
            raise EngineUnavailableError("the simulated engine does not answer", hint="Start it.")
        if _take(state, op, role, {"transient"}):
            raise TransientError(f"{op} {role}: the engine is busy")

    def _takes(self, state: Json, op: str, role: str, mishap: str) -> bool:
        return _take(state, op, role, {mishap}) is not None

    @staticmethod
    def _role(state: Json, object_id: str) -> str:
        found = state["objects"].get(object_id)
        return _role_of(found) if found else ""


def _identity(path: Path) -> str:
    """Return the id that a world has from its beginning, so that one that was only asked about is the same later."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]


def _role_of(found: Json) -> str:
    return str(found["labels"].get(LABEL_ROLE, ""))


def _empty(path: Path) -> Json:
    return {"engine": _identity(path), "objects": {}, "faults": [], "pending": [], "latency": 0.0}


def _take(state: Json, op: str, role: str, mishaps: set[str]) -> Json | None:
    """Use up one fault that fits, if there is one."""
    for fault in state["faults"]:
        if fault["op"] == op and fault["role"] in {"", role} and fault["mishap"] in mishaps and fault["times"] > 0:
            fault["times"] -= 1
            return dict(fault)
    return None


def _apply_due(state: Json) -> None:
    now = time.time()
    due = [p for p in state["pending"] if p["due"] <= now]
    state["pending"] = [p for p in state["pending"] if p["due"] > now]
    for pending in due:
        _apply(state, pending["change"])


def _end(found: Json, fields: Json) -> None:
    found |= fields
    found["files"] = {path: text for path, text in found["files"].items() if not path.startswith(VOLATILE)}


def _apply(state: Json, change: Json) -> None:
    objects: dict[str, Any] = state["objects"]
    match change:
        case {"put_object": made}:
            objects[made["id"]] = made
        case {"change": [object_id, fields]} if object_id in objects:
            _end(objects[object_id], fields) if fields["state"] == "exited" else objects[object_id].update(fields)
        case {"drop": object_id}:
            objects.pop(object_id, None)
            state.get("logs", {}).pop(object_id, None)
        case {"file": [object_id, path, text]} if object_id in objects:
            objects[object_id]["files"][path] = text
        case _:
            return
