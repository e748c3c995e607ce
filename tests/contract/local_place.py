"""A place on this machine's own sandboxes; hands reach it by files and signals, past the backend."""

from __future__ import annotations

import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from bottle_fsm.backend.local import identity, proc
from bottle_fsm.backend.local.places import DIRECTORY
from bottle_fsm.backend.local.world import MARK, MARK_LABELS, LocalWorld
from contract.contract_place import Deviation, Place, Raw


class LocalPlace(Place):
    kind: ClassVar[str] = "local"
    roles: ClassVar[tuple[str, ...]] = ("net-inside", "net-between", "guard", "interceptor", "agent")
    outermost: ClassVar[str] = "net-between"

    def __init__(self, folder: Path, deviation: Deviation) -> None:
        super().__init__(folder, deviation, {"PATH": os.environ["PATH"]})
        self.folder_of_all = self.runtime.root.path / DIRECTORY
        self.machine: dict[str, Any] = {}

    def raw(self) -> list[Raw]:
        found = []
        for path in sorted(self.folder_of_all.glob("*/object.json")):
            content = json.loads(path.read_bytes())
            found.append(_raw(content, content["id"], self._state(path.parent, content)))
        known = {r.id for r in found}
        for process in proc.scan(MARK):
            mark = json.loads(process.environ[MARK_LABELS])
            if Path(mark["directory"]).parent == self.folder_of_all and process.mark not in known:
                found.append(_raw({"kind": "process", **mark}, process.mark, "running"))
        return sorted(found, key=lambda r: (r.kind, r.id))

    def _state(self, directory: Path, content: dict[str, Any]) -> str:
        if content["kind"] != "process":
            return "present"
        if self._alive(directory):
            return "running"
        return "exited" if (directory / "started").exists() else "created"

    def _alive(self, directory: Path) -> bool:
        try:
            return proc.is_alive(proc.Known.from_json(json.loads((directory / "state.json").read_bytes())))
        except FileNotFoundError:
            return False

    def visible(self) -> bytes:
        """Command lines are shown to everybody; labels, states and logs to this user."""
        parts = [path.read_bytes() for name in ("object.json", "state.json", "log") for path in self._files(name)]
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
            try:
                parts.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
        parts += [json.dumps(p.environ).encode() for p in proc.scan(MARK)]
        return b"\n".join(parts)

    def _files(self, name: str) -> list[Path]:
        return sorted(self.folder_of_all.glob(f"*/{name}"))

    def vanish(self, object_id: str) -> None:
        self._end(object_id)
        shutil.rmtree(self._directory(object_id))

    def halt(self, object_id: str) -> None:
        self._end(object_id)

    def _end(self, object_id: str) -> None:
        state = self._directory(object_id) / "state.json"
        if state.exists():
            known = proc.Known.from_json(json.loads(state.read_bytes()))
            if proc.is_alive(known):
                handle = os.pidfd_open(known.pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)
                while proc.is_alive(known) or any(p.mark == object_id for p in proc.scan(MARK)):
                    pass

    def _directory(self, object_id: str) -> Path:
        return next(p.parent for p in self._files("object.json") if json.loads(p.read_bytes())["id"] == object_id)

    def plant(self, kind: str, name: str, labels: dict[str, str]) -> str:
        made = uuid.uuid4().hex
        directory = self.folder_of_all / (name if not (self.folder_of_all / name).exists() else f"{name}-{made[:6]}")
        directory.mkdir(parents=True)
        local = "process" if kind == "container" else "directory"
        (directory / "object.json").write_text(json.dumps({"id": made, "kind": local, "name": name, "labels": labels}))
        return made

    @contextmanager
    def other_engine(self) -> Iterator[None]:
        before = identity._machine
        identity._machine = lambda: "another machine"
        try:
            yield
        finally:
            identity._machine = before

    def clean(self) -> None:
        world = LocalWorld(self.folder_of_all)
        for item in world.objects():
            world.remove(item)
        self.runtime.journal.verify()
        self.runtime.journal.close()
        assert not [p for p in proc.scan(MARK) if str(self.folder_of_all) in p.environ[MARK_LABELS]]


def _raw(content: dict[str, Any], object_id: str, state: str) -> Raw:
    labels = tuple(sorted((str(k), str(v)) for k, v in content["labels"].items()))
    return Raw(object_id, content["kind"], content["name"], labels, state)
