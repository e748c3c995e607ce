"""Place: one bottle on one backend, with the real runner, and hands that reach into the world past the backend.

What a hand does to the world is the backend's affair; each backend's place says how. Nothing of the runner is replaced.
"""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bottle_fsm import naming
from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.bottle import Bottle
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Event, Host, Json, Observed
from bottle_fsm.naming import Labels
from bottle_fsm.runner.registry import COMPENSATIONS, EFFECTS, load_definition
from bottle_fsm.runner.session import Runtime, Session, session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.runner.stop import NeverStop, Stop
from bottle_fsm.runner.verbs import OnFailure, Outcome, Wish, apply, destroy, resume
from bottle_fsm.store import kinds
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.record import BottleRecord
from bottle_fsm.store.root import open_root
from contract.contract_steps import reaped
from runner_bench import Crowd

CANARY = "canary-6d0c2f71-of-the-contract"
AGENT = "worker"
ROLES = ("net-inside", "net-between", "net-outside", "guard", "interceptor", "agent")
CONTAINERS = ("guard", "interceptor", "agent")


@dataclass(frozen=True)
class Deviation:
    """How one backend's suite differs from the others'; `conftest` lists them all, each with its reason.

    Attributes:
        every_kth: a launch of its own is killed at every k-th boundary between sub-steps; 0: one launch is killed once
            at each sub-step instead.
        shows_secrets_inside: a command inside can read the secret's value.
    """

    every_kth: int
    shows_secrets_inside: bool


@dataclass(frozen=True)
class Raw:
    """An object as the world itself lists it, whoever made it."""

    id: str
    kind: str
    name: str
    labels: tuple[tuple[str, str], ...]
    state: str

    @property
    def role(self) -> str:
        return dict(self.labels).get(naming.LABEL_ROLE, "")


class Place(ABC):
    """See the module. `folder` must be new."""

    kind: ClassVar[str]
    roles: ClassVar[tuple[str, ...]] = ROLES
    outermost: ClassVar[str] = "net-outside"
    """The role of the object that is made last among those that two sandboxes or containers meet at."""
    always: ClassVar[Json] = {}
    """Keys of every bottle of this place."""

    def __init__(self, folder: Path, deviation: Deviation, environ: dict[str, str]) -> None:
        self.deviation = deviation
        self.folder = folder
        self.project = f"contract-{secrets.token_hex(4)}"
        self.bottle_name = naming.bottle_name(self.project, AGENT)
        self.people = Crowd()
        self.condition = "new"
        self.watched: dict[int, set[str]] = {}
        root = open_root(folder / "state")
        journal = Journal(root.path, root.root_id)
        host = Host(root.root_id, root.path, folder, {**environ, "TOKEN": CANARY, "HOME": str(folder)})
        self.backends: list[BottleBackend] = []
        self.runtime = Runtime(root, journal, load_definition(), host, self._make, self.people, Stop())
        self.slug = naming.slug(root.root_id, self.project, AGENT)
        self.write()

    def _make(self, name: str, host: Host, endpoint: Json) -> BottleBackend:
        made = make_backend(name, host, endpoint)
        self.backends.append(made)
        return made

    # -- the world, past the backend ---------------------------------------------------------------------------------

    @abstractmethod
    def raw(self) -> list[Raw]:
        """List everything that carries our root's label or has one of our names."""

    @abstractmethod
    def visible(self) -> bytes:
        """Return all that the world shows to everybody who may look at it."""

    @abstractmethod
    def vanish(self, object_id: str) -> None:
        """Remove an object behind our back."""

    @abstractmethod
    def halt(self, object_id: str) -> None:
        """End a container behind our back, as `kill -9` of its first process would."""

    @abstractmethod
    def plant(self, kind: str, name: str, labels: dict[str, str]) -> str:
        """Make an object that never started; a network of a name that is taken, too. Return its id."""

    @abstractmethod
    def other_engine(self) -> AbstractContextManager[None]:
        """Let another engine answer where ours did, for as long as the block runs."""

    @abstractmethod
    def clean(self) -> None:
        """Take away whatever is left."""

    # -- hands that all worlds share ---------------------------------------------------------------------------------

    def ids(self) -> dict[str, str]:
        """Return role → id of everything that carries our label; two of one role are an error."""
        found = [r for r in self.raw() if r.role]
        assert len({r.role for r in found}) == len(found), found
        return {r.role: r.id for r in found}

    def name_of(self, role: str) -> str:
        return naming.object_name(role, self.slug)

    def labels(self, role: str, **changes: Any) -> dict[str, str]:
        """Return the labels that an object of this launch would have, made by the last run that acted."""
        acted = [e.epoch for e in self.events(kinds.DECLARED, kinds.STEP_INTENT)]
        made = Labels(
            root=self.runtime.root.root_id,
            bottle=self.bottle_name,
            launch=self.record.launch,
            role=role,
            step="planted",
            spec="spec",
            epoch=acted[-1],
        )
        return replace(made, **changes).as_dict()

    def plant_ours(self, role: str, **changes: Any) -> str:
        """Make an object with our name and labels, as a launcher of ours would that died before it went on."""
        kind = "network" if role.startswith("net-") else "container"
        return self.plant(kind, self.name_of(role), self.labels(role, **changes))

    # -- what a person does ------------------------------------------------------------------------------------------

    def write(
        self,
        *,
        allow: str = "example.org",
        greeting: str = "hello",
        reach: Json | None = None,
        more: Json | None = None,
    ) -> None:
        """Write the manifest; JSON is YAML. `reach` and `more` are further keys of the bottle and of the agent."""
        bottle: Json = {
            "egress": {"guard": "builtin", "allow": [allow]},
            "env": {"GREETING": greeting, "TOKEN": {"from": "${TOKEN}", "secret": True, "to": ["example.org"]}},
            "resources": {"memory": "256m", "cpus": 1.0, "pids": 96},
            **self.always,
            **(reach or {}),
        }
        skill = self.folder / "skills" / "wave"
        skill.mkdir(parents=True, exist_ok=True)
        (skill / "SKILL.md").write_text("# Wave\n")
        agent: Json = {
            "bottle": "dev",
            "command": ["bash"],
            "prompt": "Say hello.",
            "skills": [str(skill)],
            "git": {"user": {"name": "Ada", "email": "ada@example.org"}},
            **(more or {}),
        }
        wish = {"version": 1, "name": self.project, "bottles": {"dev": bottle}, "agents": {AGENT: agent}}
        (self.folder / "manifest.yaml").write_text(json.dumps(wish))

    def spec(self) -> BottleSpec:
        loaded = load_manifest(self.folder / "manifest.yaml")
        return specs(loaded.manifest, loaded.path)[0]

    def apply(self, on_failure: OnFailure = "teardown") -> Outcome:
        return apply(self.runtime, Wish(self.spec(), self.kind, on_failure))

    def resume(self) -> Outcome:
        return resume(self.runtime, self.bottle_name)

    def destroy(self) -> Outcome:
        return destroy(self.runtime, self.bottle_name, discard=True)

    @property
    def record(self) -> BottleRecord:
        return self.runtime.journal.record(self.bottle_name) or BottleRecord(self.bottle_name)

    def events(self, *wanted: str) -> list[Event]:
        found = self.runtime.journal.events(bottle=self.bottle_name)
        return [e for e in found if not wanted or e.kind in wanted]

    def watch(self, event: Event) -> None:
        """Remember which names were in the world when a sub-step's intent or outcome was on disk."""
        if event.kind in {kinds.STEP_INTENT, kinds.STEP_DONE}:
            self.watched[event.sequence] = {r.name for r in self.raw()}

    def mend(self) -> None:
        """Bring the bottle to what its manifest says, whatever was done to it."""
        if self.condition == "well":
            return
        self.people.yes = True
        self.apply()
        self.people.yes = False
        self.condition = "well"

    # -- the backend, past the machine -------------------------------------------------------------------------------

    def backend(self) -> BottleBackend:
        """Return a backend that knows of no launch yet."""
        return self._make(self.kind, self.runtime.host, {})

    @contextmanager
    def owned(self) -> Iterator[Session]:
        """Hold the bottle's lock."""
        with session(self.runtime, self.bottle_name, command="contract") as owned:
            yield owned

    def plan_only(self) -> None:
        """Launch, and die when the first sub-step would begin: everything is planned and nothing is made."""
        with reaped(before=lambda name: True):
            self.apply()
        assert self.record.state == "planned"

    def effect(self, trigger: str) -> None:
        """Run a transition's effect once more, in whatever state the launch is."""
        transition = self.runtime.definition.transition(trigger)
        self._run(trigger, EFFECTS[transition.effect])

    def undo(self, trigger: str) -> None:
        """Run a transition's compensation."""
        transition = self.runtime.definition.transition(trigger)
        self._run(trigger, COMPENSATIONS[transition.compensate])

    def _run(self, trigger: str, effect: Callable[[Session, RunnerSteps], None]) -> None:
        transition = self.runtime.definition.transition(trigger)
        with self.owned() as owned:
            steps = RunnerSteps(owned, transition, source=owned.record.state, attempt=1, stop=NeverStop())
            effect(owned, steps)

    def observe(self) -> Observed:
        with self.owned() as owned:
            return owned.backend.observe(owned.launch())

    def drift(self) -> str:
        with self.owned() as owned:
            return owned.backend.drift(owned.plan, owned.launch())

    def bottle(self) -> Bottle:
        with self.owned() as owned:
            return owned.backend.bottle(owned.launch())

    def steps_of(self, trigger: str, since: int) -> list[Json]:
        """Return the evidence of a transition's sub-steps that ended after an event."""
        ended = self.events(kinds.STEP_DONE, kinds.STEP_SKIPPED)
        return [e.evidence for e in ended if e.trigger == trigger and e.sequence > since]
