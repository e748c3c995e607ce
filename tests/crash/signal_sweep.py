"""The signal sweep: the command line, signalled at every point of a launch, a repair and a teardown, then followed up.

`signal_sweep.py --scenario launch` prints one JSON line a case; `--every 2` leaves out every second point. Each run is
a process of its own, forked from one that has no threads and has everything imported; the signal comes from within, at
exactly the point that is meant.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from bottle_fsm import failpoints
from bottle_fsm.backend.fake.backend import WORLD_FILE, FakeBackend
from bottle_fsm.backend.fake.world import FakeObject, FakeWorld
from bottle_fsm.cli.main import door
from bottle_fsm.errors import BottleError
from bottle_fsm.naming import LABEL_ROLE
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.store.journal import DATABASE, Journal
from bottle_fsm.store.record import BottleRecord
from bottle_fsm.store.root import open_root

BOTTLE: Final = "demo/one"
MANIFEST: Final = """\
version: 1
name: demo
backend: fake
bottles: {dev: {env: {COLOUR: blue}, egress: {allow: [example.org]}}}
agents: {one: {bottle: dev, prompt: Say hello., git: {user: {name: Ada, email: ada@example.org}}}}
"""
MEMORY: Final = Path("/dev/shm")
SETTLE: Final = 0.01
MODES: Final = {"int": "2", "twice": "2,2", "term": "15", "hup": "1", "keep": "2"}
"""Signals, in the order in which they come; `keep` is Ctrl-C with `--on-failure keep`."""
CODES: Final = {"int": 130, "twice": 130, "term": 143, "hup": 129, "keep": 130}
CHECKED: Final = ("intent.before", "step.intent.before")
"""A first signal is looked at right before these points."""


@dataclass
class Case:
    """One line of the results."""

    scenario: str
    point: str
    number: int
    trigger: str
    mode: str
    then: str
    code: int = 0
    outcome: str = ""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Place:
    """A state directory with a manifest; what a scenario prepares is kept aside and brought back for each case."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.state = top / "state"
        self.kept = top / "kept"
        (top / "demo.yaml").write_text(MANIFEST)

    def words(self, verb: str, mode: str = "") -> list[str]:
        """The command line of a verb."""
        policy = ["--on-failure", "keep"] if mode == "keep" else []
        target = {"apply": [str(self.top / "demo.yaml"), *policy], "destroy": ["one", "--yes"]}.get(verb, ["one"])
        return ["--state-dir", str(self.state), verb, *target]

    def run(self, words: list[str], failpoint: str = "", trace: str = "") -> int:
        """Run the program in a process of its own; return its exit code as a shell tells it."""
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                for number in (1, 2):
                    os.dup2(os.open(self.top / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
                failpoints.arm(failpoint, trace)
                door.main(words)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code if code >= 0 else 128 - code

    def keep(self) -> None:
        """Keep the state directory as it is now, for `back`."""
        if self.state.exists():
            shutil.copytree(self.state, self.kept)

    def back(self) -> None:
        """Bring the state directory back as it was kept."""
        shutil.rmtree(self.state, ignore_errors=True)
        if self.kept.exists():
            shutil.copytree(self.kept, self.state)

    def objects(self) -> dict[str, FakeObject]:
        """Role → object."""
        return {o.labels[LABEL_ROLE]: o for o in FakeWorld(self.state / WORLD_FILE).objects()}

    def record(self) -> BottleRecord:
        """The bottle's record; the journal's chain and caches are checked on the way."""
        if not (self.state / DATABASE).exists():
            return BottleRecord(BOTTLE)
        root = open_root(self.state)
        with closing(Journal(root.path, root.root_id)) as journal:
            journal.verify()
            return journal.record(BOTTLE) or BottleRecord(BOTTLE)


def prepare(scenario: str, place: Place) -> str:
    """Bring a place to where a scenario begins; return the verb that is signalled."""
    if scenario == "launch":
        return "apply"
    place.run(place.words("apply"))
    if scenario == "teardown":
        return "destroy"
    FakeWorld(place.state / WORLD_FILE).remove(place.objects()["interceptor"].id)
    return "apply"


def cases(scenario: str, place: Place, verb: str, *, every: int) -> Iterator[Case]:
    """Yield cases for an undisturbed run's points: each transition meets all modes, each `every`-th other point one."""
    trace = place.top / "trace"
    place.run(place.words(verb), trace=str(trace))
    points = [line.split(" ", 2)[1:] for line in trace.read_text().splitlines()]
    modes = [m for m in MODES if m != "keep" or scenario == "launch"]
    trigger, met = "", 0
    for number, (point, detail) in enumerate(points, 1):
        if point.startswith(("intent.before", "undo.intent.before")):
            trigger = detail
        first = point.startswith(("intent.after", "undo.intent.after"))
        if not first and number % every:
            continue
        for mode in modes if first else (modes[met % len(modes)],):
            yield Case(scenario, point, number, trigger, mode, ("resume", "destroy")[met % 2])
            met += 1
        met += not first


def stopped_in_time(points: list[str], number: int) -> bool:
    """Tell whether a first signal at a point is looked at before the run is over."""
    return any(p.startswith(CHECKED) for p in points[number:])


def judge(case: Case, place: Place, before: dict[str, FakeObject], *, in_time: bool) -> Iterator[str]:
    """Say what is wrong right after the signalled run."""
    record, there = place.record(), place.objects()
    begun = not case.point.startswith("journal.open")
    going_down = case.scenario == "teardown" and begun
    ignored = case.mode != "twice" and begun and (going_down or not in_time)
    expected = 0 if ignored else CODES[case.mode]
    if case.code != expected:
        yield f"exit code {case.code}, not {expected}"
    if case.mode == "twice" or not begun:
        allowed = {record.outcome}  # anything: it ended in the middle, and the journal was checked
    elif ignored:
        allowed = {"torn_down" if going_down else "ready"}
    else:
        kept = case.scenario == "repair" or case.mode in {"hup", "keep"}
        allowed = {"interrupted" if kept else "torn_down"}
    if record.outcome not in allowed:
        yield f"{record.outcome}, not {allowed}"
    if record.outcome == "torn_down" and there:
        yield f"torn down with {len(there)} objects"
    if case.scenario == "repair" and there["agent"].id != before["agent"].id:
        yield "the agent was made again"
    if not begun and there != before:
        yield "something was begun"


def follow_up(case: Case, place: Place) -> Iterator[str]:
    """Go on by resume or destroy, and say what is wrong at the end."""
    was, there = place.record(), place.objects()
    code = place.run(place.words(case.then)) if was.launch else 0
    record, now = place.record(), place.objects()
    if code != 0:
        yield f"{case.then} ended with {code}"
    if not was.launch or record.outcome == "torn_down":
        if now:
            yield f"{len(now)} objects are left"
        if was.launch and case.then == "resume" and was.state != "torn_down" and not was.down:
            yield "resume tore it down"
        return
    if case.then == "destroy":
        yield f"destroyed, but {record.outcome}"
    if record.outcome != "ready" or len(now) != len(FakeWorld(place.state / WORLD_FILE).objects()) or len(now) != 6:
        yield f"{record.outcome} with {len(now)} roles"
    yield from (f"{r} was made again" for r, o in there.items() if o.state != "created" and now[r].id != o.id)


def run_case(case: Case, place: Place, verb: str, *, in_time: bool) -> Case:
    """Run one case and judge it."""
    started = time.monotonic()
    place.back()
    before = place.objects()
    case.code = place.run(place.words(verb, case.mode), f"#{case.number}=signal:{MODES[case.mode]}")
    try:
        case.outcome = place.record().outcome
        case.wrong += [*judge(case, place, before, in_time=in_time), *follow_up(case, place)]
    except BottleError as error:
        case.wrong.append(str(error))
    case.seconds = round(time.monotonic() - started, 3)
    return case


def main(argv: list[str]) -> int:
    """Run a scenario, print a line a case, and return 1 when one went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenario", choices=["launch", "repair", "teardown"], required=True)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(argv)
    FakeBackend.settle = SETTLE
    load_definition()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bottle-signal-", dir=MEMORY if MEMORY.is_dir() else None) as top:
        place = Place(Path(top))
        verb = prepare(options.scenario, place)
        place.keep()
        found = list(cases(options.scenario, place, verb, every=options.every))
        points = [line.split(" ")[1] for line in (place.top / "trace").read_text().splitlines()]
        for case in found:
            done = run_case(case, place, verb, in_time=stopped_in_time(points, case.number))
            failed += bool(done.wrong)
            print(json.dumps(asdict(done)), flush=True)  # noqa: T201 - the results are this program's output
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
