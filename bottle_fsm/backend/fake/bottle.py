"""FakeBottle: the handle into a simulated bottle. Files are kept in the world; commands are only pretended."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bottle_fsm.archive import tree_digest
from bottle_fsm.backend.fake.world import FakeWorld
from bottle_fsm.bottle import ExecResult, Owner
from bottle_fsm.errors import BackendError, ProvisionError


class FakeBottle:
    """The `Bottle` of the fake backend; see `bottle_fsm.bottle`."""

    def __init__(self, world: FakeWorld, agent_id: str, name: str) -> None:
        self._world = world
        self._id = agent_id
        self._name = name

    def exec(  # noqa: PLR0913 - the protocol's signature
        self,
        argv: Sequence[str],
        *,
        user: Owner = "agent",
        stdin: bytes | None = None,  # noqa: ARG002 - nothing runs that could read it
        env: Mapping[str, str] | None = None,  # noqa: ARG002 - as stdin
        workdir: str | None = None,  # noqa: ARG002 - as stdin
        timeout: float = 60.0,  # noqa: ARG002 - as stdin
    ) -> ExecResult:
        """Pretend to run a command: say so, and end as `exit N` asks."""
        self._running()
        code = int(argv[1]) if list(argv[:1]) == ["exit"] and len(argv) > 1 else 0
        return ExecResult(code, f"simulated as {user}: {' '.join(argv)}\n".encode(), b"")

    def copy_in(self, source: bytes | Path, target: str, *, mode: int = 0o644, owner: Owner = "agent") -> str:
        """Keep bytes, a file or a tree's files in the world."""
        self._running()
        if isinstance(source, bytes):
            self._keep(target, source, mode, owner)
            return hashlib.sha256(source).hexdigest()
        if not source.is_dir():
            self._keep(target, source.read_bytes(), mode, owner)
            return hashlib.sha256(source.read_bytes()).hexdigest()
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            self._keep(f"{target}/{path.relative_to(source)}", path.read_bytes(), path.stat().st_mode & 0o777, owner)
        return tree_digest(source)

    def copy_out(self, source: str, target: Path) -> None:
        """Bring a file, or all files below a path, back to the host."""
        self._running()
        below = [p for p in self._world.paths(self._id) if p == source or p.startswith(f"{source}/")]
        if not below:
            raise ProvisionError(f"there is no {source}", place=self._name)
        for path in below:
            out = target / path[len(source) + 1 :] if path != source else target
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(self.read_file(path))

    def read_file(self, path: str) -> bytes:
        """Return a kept file's bytes."""
        self._running()
        text = self._world.file(self._id, path)
        if text is None:
            raise ProvisionError(f"there is no file {path}", place=self._name)
        return base64.b64decode(text.rpartition(" ")[2])

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:  # noqa: ARG002 - see exec
        """Pretend to run a command on the terminal."""
        return self.exec(argv).code

    def _keep(self, path: str, data: bytes, mode: int, owner: Owner) -> None:
        self._world.put(self._id, path, f"{mode:o} {owner} {base64.b64encode(data).decode()}")

    def _running(self) -> None:
        found = [o for o in self._world.objects() if o.id == self._id and o.state == "running"]
        if not found:
            raise BackendError("the bottle does not run", place=self._name)
