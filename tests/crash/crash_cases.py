"""What is killed, and how it goes on: scenarios on the simulated engine, each run in forked processes.

A case is: prepare a world, run the first verb with a failpoint armed, perhaps run the next with another, then run the
last one to its end and judge. Nothing here is a mock of ours: journal, locks, runner and backend are the real ones.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from bottle_fsm import failpoints
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.backend.fake.backend import WORLD_FILE, FakeBackend
from bottle_fsm.backend.fake.world import FakeWorld, Fault
from bottle_fsm.errors import BottleError
from bottle_fsm.machine.definition import Definition, parse
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import NAMES, load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import OnFailure, Wish, apply, destroy, resume
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root

BOTTLE: Final = "demo/one"
ROLES: Final = ("agent", "guard", "interceptor", "net-between", "net-inside", "net-outside")
MANIFEST: Final = """\
version: 1
name: demo
bottles:
  dev:
    image: some-image:latest
    env: {TOKEN: {from: "${TOKEN}", secret: true}}
    egress: {allow: [example.org]}
agents:
  one: {bottle: dev, prompt: Say hello., git: {user: {name: Ada, email: ada@example.org}}}
"""
CANARY: Final = "canary-0123456789abcdef"
SETTLE: Final = 0.01
ENDED_WELL, ENDED_WITH_ERROR, BROKE = 0, 1, 2


@dataclass
class Place:
    """A state directory and a manifest, made new for a case."""

    folder: Path
    on_failure: OnFailure = "teardown"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def world(self) -> FakeWorld:
        return FakeWorld(self.state / WORLD_FILE)

    def begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "manifest.yaml").write_text(MANIFEST)

    def begin_with(self, scenario: Scenario) -> None:
        """Begin where a scenario begins; what it prepares is kept beside the place and brought back the next time."""
        kept = self.folder.with_name(f"kept-{scenario.name}")
        self.on_failure = scenario.on_failure
        if kept.exists():
            shutil.rmtree(self.folder)
            shutil.copytree(kept, self.folder)
            return
        self.begin()
        scenario.prepare(self)
        shutil.copytree(self.folder, kept)

    def runtime(self) -> Runtime:
        FakeBackend.settle = SETTLE
        root = open_root(self.state)
        journal = Journal(root.path, root.root_id)
        host = Host(root.root_id, root.path, self.folder, {"TOKEN": CANARY, "HOME": str(self.folder)})
        return Runtime(root, journal, _impatient(), host, make_backend, Silent(yes=True), Stop())

    def act(self, verb: str) -> None:
        """Run one verb in this process."""
        runtime = self.runtime()
        try:
            if verb == "apply":
                loaded = load_manifest(self.folder / "manifest.yaml")
                apply(runtime, Wish(specs(loaded.manifest, loaded.path)[0], "fake", self.on_failure))
            elif verb == "resume":
                resume(runtime, BOTTLE)
            else:
                destroy(runtime, BOTTLE, discard=True)
        finally:
            runtime.journal.close()

    def forked(self, verb: str, failpoint: str = "", trace: str = "") -> int:
        """Run one verb in a process of its own; return its exit code, or minus the signal that ended it."""
        child = os.fork()
        if child == 0:
            code = BROKE
            sys.settrace(None)  # a process that is killed writes no coverage down
            try:
                failpoints.arm(failpoint, trace)
                self.act(verb)
                code = ENDED_WELL
            except BottleError:
                code = ENDED_WITH_ERROR
            except BaseException:  # noqa: BLE001 - whatever it was, this process must not go on as a second test run
                traceback.print_exc()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@cache
def _impatient() -> Definition:
    """The shipped machine with short waits between attempts; everything else is as it ships."""
    raw = copy.deepcopy(load_definition().raw)
    for transition in raw["transitions"]:
        if "retry" in transition:
            transition["retry"]["interval"] = SETTLE
    return parse(raw, place="bottle.yaml", names=NAMES)


def _ready(place: Place) -> None:
    place.act("apply")


def _needs_repair(place: Place) -> None:
    place.act("apply")
    for found in place.world.objects():
        if found.labels["bottle-fsm.role"] == "interceptor":
            place.world.remove(found.id)


def _stopped(place: Place) -> None:
    place.act("apply")
    place.world.restart()


def _fails(place: Place) -> None:
    place.runtime().journal.close()
    place.world.inject(Fault("start", "exits", role="interceptor", times=1))


def _retries(place: Place) -> None:
    place.runtime().journal.close()
    place.world.inject(Fault("create", "transient", role="guard", times=1))


def _loses_a_reply(place: Place) -> None:
    place.runtime().journal.close()
    place.world.inject(Fault("create", "lose_reply", role="guard", times=1))


def _late(place: Place) -> None:
    place.runtime().journal.close()
    place.world.inject(Fault("create", "late", role="guard", times=1, after=SETTLE / 2))


def _nothing(place: Place) -> None:
    del place


@dataclass(frozen=True)
class Scenario:
    """How a case begins: the world before, and the verb that is killed."""

    name: str
    prepare: Callable[[Place], None]
    verb: str
    next_verbs: tuple[str, ...] = ("resume", "destroy", "apply")
    on_failure: OnFailure = field(default="teardown")
    still_fails: bool = False
    """What made the first run fail may meet the follow-up, too: then it ends with our error, and with nothing."""


SCENARIOS: Final = {
    s.name: s
    for s in (
        Scenario("launch", _nothing, "apply"),
        Scenario("teardown", _ready, "destroy"),
        Scenario("repair", _needs_repair, "apply"),
        Scenario("restart", _stopped, "apply", ("resume",)),
        Scenario("compensation", _fails, "apply", still_fails=True),
        Scenario("retry", _retries, "apply", ("resume",)),
        Scenario("lost-reply", _loses_a_reply, "apply", ("resume",)),
        Scenario("late-effect", _late, "apply", ("resume", "destroy")),
    )
}
