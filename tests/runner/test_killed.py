"""Real processes, killed with SIGKILL right after an event was committed, then resumed or taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bottle_fsm.backend.fake.world import Fault
from bottle_fsm.runner.verbs import destroy, resume
from bottle_fsm.store import kinds
from runner_bench import BOTTLE, Bench

LAUNCHER = Path(__file__).parent / "launcher.py"


def launch(bench: Bench, verb: str, after: int) -> int:
    manifest = bench.folder / "manifest.yaml"
    command = [sys.executable, str(LAUNCHER), verb, str(bench.runtime.root.path), str(manifest), str(after)]
    return subprocess.run(command, check=False, timeout=60).returncode


def ids(bench: Bench) -> dict[str, str]:
    return {role: found.id for role, found in bench.objects().items()}


@pytest.mark.parametrize("after", [1, 3, 6, 9, 14, 19, 21, 26, 31, 35])
def test_ends_as_an_uninterrupted_run_does(after: int, bench: Bench) -> None:
    assert launch(bench, "apply", after) == -9
    before = {role: found.id for role, found in bench.objects().items() if found.state != "created"}
    assert resume(bench.runtime, BOTTLE).action == "resumed"
    after_ids = ids(bench)
    assert len(after_ids) == len(bench.world.objects()) == 6
    assert {r: i for r, i in after_ids.items() if r in before} == before
    assert bench.record.outcome == "ready"
    runs = {e.run for e in bench.runtime.journal.events(bottle=BOTTLE)}
    assert len(runs) == 2


@pytest.mark.parametrize("after", [3, 9, 21, 31])
def test_leaves_nothing_when_it_is_destroyed_instead(after: int, bench: Bench) -> None:
    assert launch(bench, "apply", after) == -9
    bench.people.yes = True
    assert destroy(bench.runtime, BOTTLE).action == "torn_down"
    assert bench.world.objects() == []


@pytest.mark.parametrize("after", [2, 4, 7, 10, 14])
def test_finishes_a_teardown_that_was_killed(after: int, bench: Bench) -> None:
    bench.apply()
    assert launch(bench, "destroy", after) == -9
    bench.people.yes = True
    assert destroy(bench.runtime, BOTTLE).action == "torn_down"
    assert bench.world.objects() == []


def test_waits_for_what_a_dead_process_left_open(bench: Bench) -> None:
    """The create of the guard is on its way when its launcher dies; it must not be made twice."""
    step = next(n for n, e in enumerate(_events_of_a_launch(bench), 1) if e == "create guard")
    bench.world.inject(Fault("create", "late", role="guard", times=1, after=0.15))
    code = launch(bench, "apply", step + 1)
    assert code == -9
    assert resume(bench.runtime, BOTTLE).action == "resumed"
    guards = [o for o in bench.world.objects() if o.labels["bottle-fsm.role"] == "guard"]
    assert len(guards) == 1
    settled = [e for e in bench.runtime.journal.events(bottle=BOTTLE, kind=kinds.OBSERVED) if "settled" in e.evidence]
    assert settled


def _events_of_a_launch(bench: Bench) -> list[str]:
    """The sub-step names of a whole launch, in order of commit, from a run that is taken away again."""
    bench.apply()
    names = [
        str(e.evidence.get("step", e.kind)) if e.kind == kinds.STEP_INTENT else e.kind for e in bench.people.events
    ]
    bench.people.yes = True
    destroy(bench.runtime, BOTTLE)
    bench.people.events.clear()
    return names
