"""A bottle on this machine for the tests of its walls: launched once, looked at from inside and from outside."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.bottle import LocalBottle
from bottle_fsm.backend.local.places import DIRECTORY
from bottle_fsm.backend.local.world import MARK, MARK_LABELS
from cli_shell import PROGRAM, Ended

MANIFEST: Final[dict[str, Any]] = {
    "version": 1,
    "name": "walls",
    "bottles": {
        "room": {
            "env": {"TOKEN": {"from": "${TOKEN}", "secret": True, "to": ["example.org"]}},
            "egress": {"guard": "builtin", "allow": ["example.org"]},
            "resources": {"pids": 256, "memory": "512m"},
        }
    },
    "agents": {"guest": {"bottle": "room", "command": ["bash"]}},
}
SECRET: Final = f"secret-{uuid.uuid4().hex}-never-to-be-seen"


@dataclass
class Tenant:
    """A state directory, a home with something in it that nobody inside may see, and the program."""

    place: Path

    def __post_init__(self) -> None:
        self.state = self.place / "state"
        self.home = self.place / "home"
        self.home.mkdir()
        (self.home / "diary.txt").write_text("private")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BOTTLE_FSM_STATE_DIR": str(self.state),
            "XDG_DATA_HOME": os.environ.get("XDG_DATA_HOME", ""),
            "TOKEN": SECRET,
            **{n: v for n, v in os.environ.items() if n.startswith(("COVERAGE", "PIP_", "UV_", "SSL_CERT"))},
        }

    def write(self, **agents: Any) -> Path:
        path = self.place / "walls.yaml"
        path.write_text(json.dumps({**MANIFEST, "agents": agents or MANIFEST["agents"]}))
        return path

    def run(self, *words: str | Path, **more: Any) -> Ended:
        done = subprocess.run(
            [PROGRAM, *map(str, words)], env=self.env, capture_output=True, text=True, timeout=300, check=False, **more
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str | Path) -> Ended:
        ended = self.run(*words)
        assert ended.code == 0, f"{words}: {ended.code}\n{ended.err}\n{ended.out}"
        return ended

    def directory(self, role: str, bottle: str = "walls/guest") -> Path:
        for path in (self.state / DIRECTORY).glob("*/object.json"):
            labels = json.loads(path.read_bytes())["labels"]
            if (labels["bottle-fsm.role"], labels["bottle-fsm.bottle"]) == (role, bottle):
                return path.parent
        raise AssertionError(f"no {role}")

    def door(self, role: str = "agent") -> LocalBottle:
        return LocalBottle(self.directory(role), name=role)

    def inside(self, script: str, *, role: str = "agent", seconds: float = 30.0) -> str:
        """Run a shell script inside and return what it says, both streams."""
        result = self.door(role).exec(["sh", "-c", f"({script}) 2>&1"], timeout=seconds)
        return result.stdout.decode(errors="replace").strip()

    def known(self, role: str = "agent") -> proc.Known:
        return proc.Known.from_json(json.loads((self.directory(role) / "state.json").read_bytes()))

    def supervisors(self) -> list[proc.Marked]:
        mine = str(self.state / DIRECTORY)
        return [p for p in proc.scan(MARK) if str(Path(json.loads(p.environ[MARK_LABELS])["directory"]).parent) == mine]

    def left(self) -> list[str]:
        """Return what is left of everything: directories, supervisors, sandboxes."""
        found = [str(p) for p in (self.state / DIRECTORY).glob("*")] if self.state.exists() else []
        return found + [str(p.known.pid) for p in self.supervisors()]

    def clean(self) -> None:
        self.run("destroy", "--all", "--yes")
        assert self.left() == []
