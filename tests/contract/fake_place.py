"""A place in the simulated world; hands reach into its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from bottle_fsm import naming
from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.backend.fake.world import FakeWorld
from contract.contract_place import ROLES, Deviation, Place, Raw


class FakePlace(Place):
    kind: ClassVar[str] = "fake"

    def __init__(self, folder: Path, deviation: Deviation) -> None:
        super().__init__(folder, deviation, {})
        self.file = self.runtime.root.path / WORLD_FILE
        self.world = FakeWorld(self.file)

    def raw(self) -> list[Raw]:
        names = {self.name_of(role) for role in ROLES}
        root = (naming.LABEL_ROOT, self.runtime.root.root_id)
        found = [Raw(o.id, o.kind, o.name, tuple(sorted(o.labels.items())), o.state) for o in self.world.objects()]
        return [r for r in found if root in r.labels or r.name in names]

    def visible(self) -> bytes:
        return self.file.read_bytes()

    def vanish(self, object_id: str) -> None:
        self.world.remove(object_id)

    def halt(self, object_id: str) -> None:
        self.world.stop(object_id)

    def plant(self, kind: str, name: str, labels: dict[str, str]) -> str:
        return self.world.create(kind, name, labels)

    @contextmanager
    def other_engine(self) -> Iterator[None]:
        before = self.world.identity()
        self._set("engine", "0" * len(before))
        yield
        self._set("engine", before)

    def clean(self) -> None:
        self.runtime.journal.verify()
        self.runtime.journal.close()

    def _set(self, key: str, value: Any) -> None:
        self.file.write_text(json.dumps({**json.loads(self.file.read_text()), key: value}))
