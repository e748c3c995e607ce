"""A person at a shell with a real engine: a state directory, a home, manifests, and the program in processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bottle_fsm import naming
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from cli_shell import PROGRAM, Ended, converse
from lean_image import LEAN

REPO: Final = Path(__file__).resolve().parent.parent
MANIFESTS: Final = REPO / "manifests"
CONTAINER_ROLES: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
UP: Final = ("validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted", "provisioned")
TERMINAL_SECONDS: Final = 180.0
LITTLE: Final = {"memory": "256m", "cpus": 1.0, "pids": 128}


def simple(**reach: Any) -> dict[str, Any]:
    """Return a manifest of one agent in the lean image; `reach` says what its bottle may do."""
    egress = {"guard": "builtin", "allow": ["example.org"]}
    return {
        "version": 1,
        "name": "trial",
        "bottles": {"room": {"image": LEAN, "egress": egress, "resources": LITTLE, **reach}},
        "agents": {"guest": {"bottle": "room", "command": ["bash"]}},
    }


def wait_for(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "") -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


@dataclass
class Person:
    """One person's place; `docker_host` may lead nowhere."""

    place: Path
    docker_host: str

    def __post_init__(self) -> None:
        self.state = self.place / "state"
        self.home = self.place / "home"
        self.home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BOTTLE_FSM_STATE_DIR": str(self.state),
            "DOCKER_HOST": self.docker_host,
            "TERM": "xterm",  # and no coverage: other tests cover the same lines, in a third less time
        }
        self.program = [PROGRAM]

    # -- the program -------------------------------------------------------------------------------------------------

    def write(self, manifest: dict[str, Any], name: str = "trial.yaml") -> Path:
        """Write a manifest; JSON is YAML."""
        path = self.place / name
        path.write_text(json.dumps(manifest, indent=1))
        return path

    def run(self, *words: str | Path, stdin: str = "", seconds: float = 180.0, **more: Any) -> Ended:
        """Run a command line to its end."""
        done = subprocess.run(
            [*self.program, *map(str, words)],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            **more,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str | Path, **more: Any) -> Ended:
        """Run a command line that has to succeed."""
        ended = self.run(*words, **more)
        assert ended.code == 0, f"{words}: {ended.code}\n{ended.err}\n{ended.out}"
        return ended

    def spawn(self, *words: str | Path, **more: Any) -> subprocess.Popen[str]:
        """Start a command line; its output is thrown away unless `more` says otherwise."""
        where = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
        command = [*self.program, *map(str, words)]
        return subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, text=True, **where)

    def on_terminal(self, *words: str | Path, answers: dict[str, str] | None = None) -> Ended:
        """Run a command line on a terminal of its own; type each answer when its question is shown."""
        command = [*self.program, *map(str, words)]
        return converse(command, env=self.env, answers=answers or {}, seconds=TERMINAL_SECONDS)

    def inside(self, bottle: str, script: str, *, seconds: float = 60.0) -> Ended:
        """Run a shell script inside a bottle."""
        return self.run("exec", bottle, "--", "sh", "-c", script, seconds=seconds)

    # -- what is recorded --------------------------------------------------------------------------------------------

    def events(self, bottle: str = "") -> list[dict[str, Any]]:
        """Return a bottle's committed events, or all."""
        if not (self.state / "journal.sqlite3").exists():
            return []
        root = open_root(self.state)
        journal = Journal(root.path, root.root_id)
        try:
            return [event.body() for event in journal.events(bottle)]
        finally:
            journal.close()

    def status(self, bottle: str) -> dict[str, Any]:
        """Return what `status --json` says of a bottle."""
        (line,) = self.ok("status", bottle, "--json").out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def resources(self, bottle: str) -> dict[str, str]:
        """Return role → engine id of what the journal says is there."""
        return {r["role"]: r["id"] for r in self.status(bottle)["resources"] if r["state"] != "absent"}


class Bench(Person):
    """One person's place on a real engine."""

    def __init__(self, place: Path, engine: Engine) -> None:
        super().__init__(place, engine.url)
        self.engine = engine

    @property
    def root_id(self) -> str:
        """The id of the state directory; made if there is none."""
        return open_root(self.state).root_id

    def object_name(self, role: str, bottle: str) -> str:
        """Return the name that an object of a bottle has on the engine."""
        return naming.object_name(role, naming.slug(self.root_id, *bottle.split("/")))

    def left(self) -> list[str]:
        """Return the names of everything on the engine with our labels, or named as ours are."""
        if not self.state.exists():
            return []
        label = {"label": f"{naming.LABEL_ROOT}={self.root_id}"}
        with self.engine.guarded("list what is left") as api:
            found = {item["Names"][0].lstrip("/") for item in api.containers(all=True, filters=label)}
            found |= {item["Name"] for item in api.networks(filters=label)}
            found |= {item["Name"] for item in api.volumes(filters=label).get("Volumes") or []}
            everything = {item["Names"][0].lstrip("/") for item in api.containers(all=True)}
            everything |= {item["Name"] for item in api.networks()}
            everything |= {item["Name"] for item in api.volumes().get("Volumes") or []}
        slugs = {event["evidence"]["slug"] for event in self.events() if event["kind"] == "declared"}
        return sorted(found | {name for name in everything if any(name.endswith(slug) for slug in slugs)})

    def inspect(self, container_id: str) -> dict[str, Any]:
        """Return the engine's record of a container."""
        with self.engine.guarded("inspect") as api:
            found: dict[str, Any] = api.inspect_container(container_id)
        return found

    def clean(self) -> None:
        """Remove what a failed test left, by the label of this state directory."""
        if not self.state.exists():
            return
        label = {"label": f"{naming.LABEL_ROOT}={self.root_id}"}
        with self.engine.guarded("clean up after a test", timeout=60.0) as api:
            for container in api.containers(all=True, filters=label):
                with contextlib.suppress(Exception):
                    api.unpause(container["Id"])
                api.remove_container(container["Id"], force=True, v=True)
            for network in api.networks(filters=label):
                for member in api.inspect_network(network["Id"]).get("Containers") or {}:
                    api.disconnect_container_from_network(member, network["Id"], force=True)
                api.remove_network(network["Id"])
            for volume in api.volumes(filters=label).get("Volumes") or []:
                api.remove_volume(volume["Name"])


def kill_hard(process: subprocess.Popen[str]) -> None:
    """End a launcher as `kill -9` does."""
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
