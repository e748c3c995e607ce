"""A runtime on the fake backend: real journal, real locks, a simulated engine, and people who write down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bottle_fsm.backend.choose import make_backend
from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Event, Host
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import OnFailure, Outcome, Wish, apply
from bottle_fsm.secret import Secret
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.record import BottleRecord
from bottle_fsm.store.root import open_root

BOTTLE = "demo/one"
MANIFEST = """\
version: 1
name: demo
bottles:
  dev:
    image: some-image:latest
    env:
      LANG: C.UTF-8
      TOKEN: {from: "${TOKEN}", secret: true}
    egress: {allow: [example.org]}
agents:
  one:
    bottle: dev
    provider: command
    command: [bash]
    prompt: Say hello.
    git: {user: {name: Ada, email: ada@example.org}}
"""


@dataclass
class Crowd:
    """People who agree if told so, answer from a list, and remember everything."""

    yes: bool = False
    answers: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    on_event: Callable[[Event], None] = lambda event: None

    def committed(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def progress(self, bottle: str, text: str) -> None:
        pass

    def ask(self, bottle: str, question: str) -> Secret:
        self.asked.append(question)
        if not self.answers:
            raise DecisionNeededError(question, place=bottle)
        return Secret(self.answers.pop(0))

    def consent(self, bottle: str, question: str, *, hint: str) -> None:
        self.asked.append(question)
        if not self.yes:
            raise DecisionNeededError(question, place=bottle, hint=hint)


@dataclass
class Bench:
    """Everything a runner test wants to hold in its hands."""

    folder: Path
    runtime: Runtime
    people: Crowd
    world: FakeWorld

    def write(self, text: str = MANIFEST) -> None:
        (self.folder / "manifest.yaml").write_text(text)

    def spec(self) -> BottleSpec:
        loaded = load_manifest(self.folder / "manifest.yaml")
        return specs(loaded.manifest, loaded.path)[0]

    def apply(self, on_failure: OnFailure = "teardown") -> Outcome:
        return apply(self.runtime, Wish(self.spec(), "fake", on_failure))

    @property
    def record(self) -> BottleRecord:
        found = self.runtime.journal.record(BOTTLE)
        assert found is not None
        return found

    def objects(self) -> dict[str, FakeObject]:
        return {o.labels.get("bottle-fsm.role", o.name): o for o in self.world.objects()}

    def kinds(self) -> list[str]:
        return [e.kind for e in self.runtime.journal.events(bottle=BOTTLE)]

    def last(self, kind: str) -> Event:
        return [e for e in self.runtime.journal.events(bottle=BOTTLE) if e.kind == kind][-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "project"
    folder.mkdir()
    root = open_root(tmp_path / "state")
    journal = Journal(root.path, root.root_id)
    people = Crowd()
    environ = {**os.environ, "TOKEN": "canary-0123456789abcdef", "HOME": str(tmp_path)}
    host = Host(root.root_id, root.path, tmp_path, environ)
    runtime = Runtime(root, journal, load_definition(), host, make_backend, people, Stop())
    made = Bench(folder, runtime, people, FakeWorld(root.path / WORLD_FILE))
    made.write()
    yield made
    journal.verify()
    journal.close()
