"""A bottle that was handed over proves again what it proved then: nothing moves, nothing is mended, one event tells."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.backend.fake.world import Fault
from bottle_fsm.errors import (
    BackendError,
    BottleError,
    DecisionNeededError,
    DriftError,
    EngineUnavailableError,
    GateError,
    InterruptedLaunchError,
    LockHeldError,
    LockLostError,
    StepTimeoutError,
)
from bottle_fsm.model import Event, Host, Json, Launch
from bottle_fsm.places import CA_CERT_PATH
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.runner.prove import prove
from bottle_fsm.runner.verbs import destroy, resume
from bottle_fsm.steps import Steps
from bottle_fsm.store import kinds
from bottle_fsm.store.lock import BottleLock
from runner_bench import BOTTLE, Bench

ON_ITS_WAY = {"sequence", "epoch", "observed_at", "boot"}
"""What any event of a look may change of a record."""


def still(bench: Bench) -> Json:
    return {name: value for name, value in bench.record.to_json().items() if name not in ON_ITS_WAY}


def since(bench: Bench, sequence: int) -> list[Event]:
    return [e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.sequence > sequence]


def distrust(bench: Bench) -> None:
    """Give the agent another certificate than its interceptor's."""
    FakeBottle(bench.world, bench.objects()["agent"].id, BOTTLE).copy_in(b"another", CA_CERT_PATH, owner="root")


def open_a_way_out(bench: Bench) -> None:
    """Join the agent to a second network."""
    agent = bench.objects()["agent"].id
    with bench.world._open() as state:
        state["objects"][agent]["networks"].append("another")


TRUST_FAILS = "simulated: the agent has another certificate"
EGRESS_FAILS = "agent's networks: expected inside only, 2 networks"


def test_shows_again_what_was_shown_before_the_hand_over(bench: Bench) -> None:
    bench.apply()
    before, known = bench.record.sequence, still(bench)
    tables = {n: bench.record.evidence[n] for n in ("trust_matrix", "selftest")}
    world = bench.world.objects()
    outcome = prove(bench.runtime, BOTTLE)
    assert outcome.action == "proved"
    assert outcome.record == bench.record
    locked, found = since(bench, before)
    assert (locked.kind, found.kind) == (kinds.LOCK, kinds.OBSERVED)
    assert found.evidence == tables
    assert (found.cause, found.error, found.trigger, found.source, found.dest) == (
        "self-test: no row of 2 failed", "", "", "", ""
    )  # fmt: skip
    assert (found.launch, found.machine, found.spec) == (bench.record.launch, bench.record.machine, bench.record.spec)
    assert still(bench) == known
    assert bench.record.observed_at == found.time
    assert bench.world.objects() == world
    assert resume(bench.runtime, BOTTLE).action == "unchanged"


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ([distrust], [TRUST_FAILS]),
        ([open_a_way_out], [EGRESS_FAILS]),
        ([distrust, open_a_way_out], [TRUST_FAILS, EGRESS_FAILS]),
    ],
    ids=["trust", "egress", "both"],
)
def test_names_every_row_that_failed_and_leaves_the_bottle_as_it_is(
    broken: list[Callable[[Bench], None]], named: list[str], bench: Bench
) -> None:
    bench.apply()
    before, known = bench.record.sequence, still(bench)
    for break_it in broken:
        break_it(bench)
    world = bench.world.objects()
    with pytest.raises(GateError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 1
    assert caught.value.place == BOTTLE
    assert caught.value.problem == f"{len(named)} of 2 rows failed: {'; '.join(named)}"
    assert caught.value.hint == (
        f"It is left as it is: `bottle-fsm resume {BOTTLE}` mends drift, `bottle-fsm destroy {BOTTLE}` ends it"
    )
    (found,) = [e for e in since(bench, before) if e.kind != kinds.LOCK]
    assert (found.kind, found.error, found.cause) == (kinds.OBSERVED, "gate", f"self-test: {caught.value.problem}")
    assert [len(found.evidence[name]) for name in ("trust_matrix", "selftest")] == [1, 1]
    assert still(bench) == known
    assert bench.world.objects() == world


def test_passes_again_when_the_drift_was_mended(bench: Bench) -> None:
    bench.apply()
    distrust(bench)
    with pytest.raises(GateError):
        prove(bench.runtime, BOTTLE)
    assert resume(bench.runtime, BOTTLE).action == "repaired"
    assert prove(bench.runtime, BOTTLE).action == "proved"


# -- not now ---------------------------------------------------------------------------------------------------------


def never_launched(bench: Bench) -> None:
    bench.runtime.journal.take(BOTTLE, command="apply")


def half_way(bench: Bench) -> None:
    bench.world.inject(Fault("start", "refuse", "agent"))
    with pytest.raises(BottleError):
        bench.apply("keep")


def torn_down(bench: Bench) -> None:
    bench.apply()
    destroy(bench.runtime, BOTTLE, discard=True)


def half_way_down(bench: Bench) -> None:
    bench.apply()
    bench.world.inject(Fault("remove", "refuse", "guard", times=9))
    with pytest.raises(BottleError):
        destroy(bench.runtime, BOTTLE, discard=True)
    assert bench.record.state == "provisioned"


@pytest.mark.parametrize(
    ("came_to", "problem", "how"),
    [
        (never_launched, "no launch of it is up, so there is nothing to test", "`bottle-fsm apply MANIFEST` launches"),
        (half_way, "is not provisioned: its state is mitm_up", f"`bottle-fsm resume {BOTTLE}` goes on"),
        (torn_down, "no launch of it is up, so there is nothing to test", "`bottle-fsm apply MANIFEST` launches"),
        (half_way_down, "its teardown was begun, so there is nothing to test", f"`bottle-fsm destroy {BOTTLE}` fin"),
    ],
)
def test_tests_no_bottle_that_is_not_provisioned(
    came_to: Callable[[Bench], None], problem: str, how: str, bench: Bench
) -> None:
    came_to(bench)
    before, known = bench.record.sequence, still(bench)
    with pytest.raises(BackendError) as caught:
        prove(bench.runtime, BOTTLE)
    assert (caught.value.problem, caught.value.place, caught.value.exit_code) == (problem, BOTTLE, 1)
    assert str(caught.value.hint).startswith(how)
    assert [e.kind for e in since(bench, before)] == [kinds.LOCK]
    assert still(bench) == known


def test_waits_for_no_other_process(bench: Bench) -> None:
    bench.apply()
    with BottleLock(bench.runtime.root.path, BOTTLE, command="apply"), pytest.raises(LockHeldError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 3


def another_engine(bench: Bench) -> None:
    bench.world.restart(identity=True)


def newer_world(bench: Bench) -> None:
    guard = bench.objects()["guard"]
    bench.world.remove(guard.id)
    bench.world.create("container", guard.name, {**guard.labels, "bottle-fsm.epoch": "99"})


@pytest.mark.parametrize(
    ("stranger", "problem"), [(another_engine, "another engine answers"), (newer_world, "epoch 99")]
)
def test_says_nothing_of_a_world_that_is_another(stranger: Callable[[Bench], None], problem: str, bench: Bench) -> None:
    bench.apply()
    stranger(bench)
    before = bench.record.sequence
    with pytest.raises(DecisionNeededError, match=problem) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 4
    assert [e.kind for e in since(bench, before)] == [kinds.LOCK]


# -- what cannot be tried --------------------------------------------------------------------------------------------


def backed_by(bench: Bench, **methods: Any) -> None:
    """Let the bottle's backend do something else from now on."""
    made = type("Changed", (FakeBackend,), methods)
    bench.runtime = replace(bench.runtime, make_backend=lambda _name, host, _endpoint: made(host))


def raising(error: BaseException) -> Callable[..., None]:
    def method(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, _steps: Steps) -> None:
        raise error

    return method


def test_records_that_nothing_could_be_tried(bench: Bench) -> None:
    bench.apply()
    bench.world.remove(bench.objects()["agent"].id)
    known = still(bench)
    with pytest.raises(DriftError, match="there is no agent") as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 1
    found = bench.last(kinds.OBSERVED)
    assert (found.evidence, found.error) == ({}, "drift")
    assert found.cause == f"self-test: not everything could be tested: {BOTTLE}: there is no agent"
    assert still(bench) == known


@pytest.mark.parametrize("part", ["prove_trust", "selftest"])
def test_fails_when_a_part_of_it_could_not_be_tried(part: str, bench: Bench) -> None:
    bench.apply()
    backed_by(bench, **{part: raising(StepTimeoutError("ran longer than 90 s", place="the gate"))})
    with pytest.raises(GateError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.problem == "not everything could be tested: the gate: ran longer than 90 s"
    other = {"prove_trust": "selftest", "selftest": "trust_matrix"}[part]
    found = bench.last(kinds.OBSERVED)
    assert (list(found.evidence), found.error) == ([other], "gate")


def test_tells_a_part_that_could_not_be_tried_beside_rows_that_failed(bench: Bench) -> None:
    bench.apply()
    distrust(bench)
    backed_by(bench, selftest=raising(EngineUnavailableError("the engine went away")))
    with pytest.raises(GateError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.problem == f"1 of 1 rows failed: {TRUST_FAILS}; the engine went away"


def test_takes_no_failed_row_for_a_success_although_nobody_raised(bench: Bench) -> None:
    def quiet(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, steps: Steps) -> None:
        row = {"probe": "p", "target": "t", "expected": "a", "got": "b", "ok": False, "ms": 1}
        with steps.act("selftest", cause="a test") as step:
            step.evidence("selftest", [row])

    bench.apply()
    backed_by(bench, selftest=quiet)
    with pytest.raises(GateError, match=r"1 of 2 rows failed: p \(t\): expected a, b\. It is left"):
        prove(bench.runtime, BOTTLE)


def test_counts_rows_that_proved_nothing_and_fails_none_of_them(bench: Bench) -> None:
    def silent(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, steps: Steps) -> None:
        row = {"probe": "p", "target": "t", "expected": "allow", "got": "unresolved: no address", "ok": None, "ms": 1}
        steps.evidence("selftest", [row, {**row, "got": "allow", "ok": True}])

    bench.apply()
    backed_by(bench, selftest=silent)
    assert prove(bench.runtime, BOTTLE).action == "proved"
    assert bench.last(kinds.OBSERVED).cause == "self-test: no row of 3 failed; 1 proved nothing"


@pytest.mark.parametrize("part", ["prove_trust", "selftest"])
def test_takes_silence_for_no_proof(part: str, bench: Bench) -> None:
    def nothing(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, _steps: Steps) -> None:
        return

    bench.apply()
    backed_by(bench, **{part: nothing})
    name = {"prove_trust": "trust_matrix", "selftest": "selftest"}[part]
    with pytest.raises(GateError, match=f"not everything could be tested: {name}: came to no row at all"):
        prove(bench.runtime, BOTTLE)
    backed_by(bench, prove_trust=nothing, selftest=nothing)
    with pytest.raises(GateError, match="came to no row at all"):
        prove(bench.runtime, BOTTLE)
    assert bench.last(kinds.OBSERVED).error == "gate"


def test_believes_no_backend_that_opens_tls_and_proves_nothing(bench: Bench) -> None:
    bench.apply()
    backed_by(bench, prove_trust=BottleBackend.prove_trust)
    with pytest.raises(GateError, match="the backend fake has no way to prove trust"):
        prove(bench.runtime, BOTTLE)


# -- stopped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["prove_trust", "selftest"])
def test_records_nothing_when_it_was_asked_to_stop(part: str, bench: Bench) -> None:
    bench.apply()
    before, known = bench.record.sequence, still(bench)
    genuine = getattr(FakeBackend, part)

    def stopped(backend: FakeBackend, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        bench.runtime.stop.request(signal.SIGINT)
        genuine(backend, plan, launch, steps)

    backed_by(bench, **{part: stopped})
    with pytest.raises(InterruptedLaunchError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.signum == signal.SIGINT
    assert [e.kind for e in since(bench, before)] == [kinds.LOCK]
    assert still(bench) == known


def test_begins_no_step_after_it_was_asked_to_stop(bench: Bench) -> None:
    begun: list[str] = []

    def walk(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, steps: Steps) -> None:
        for name in ("one", "two"):
            with steps.act(name, cause="a test"):
                begun.append(name)
                bench.runtime.stop.request(signal.SIGTERM)

    bench.apply()
    backed_by(bench, prove_trust=walk)
    with pytest.raises(InterruptedLaunchError):
        prove(bench.runtime, BOTTLE)
    assert begun == ["one"]


def test_leaves_nothing_open_when_it_was_ended_at_once(bench: Bench) -> None:
    bench.apply()
    backed_by(bench, selftest=raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        prove(bench.runtime, BOTTLE)
    assert (bench.record.open_steps, bench.record.open_intent, bench.record.outcome) == ((), {}, "ready")
    assert resume(bench.runtime, BOTTLE).action == "unchanged"


@pytest.mark.parametrize("part", ["prove_trust", "selftest"])
def test_records_nothing_of_a_bottle_that_somebody_else_took(part: str, bench: Bench) -> None:
    bench.apply()
    before = bench.record.sequence
    genuine = getattr(FakeBackend, part)

    def taken(backend: FakeBackend, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        genuine(backend, plan, launch, steps)
        bench.runtime.journal.take(BOTTLE, command="resume")

    backed_by(bench, **{part: taken})
    with pytest.raises(LockLostError) as caught:
        prove(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 3
    assert [e.kind for e in since(bench, before)] == [kinds.LOCK, kinds.LOCK]


def test_asks_for_no_secret(bench: Bench) -> None:
    bench.apply()
    host = bench.runtime.host
    bare = Host(host.root_id, host.state_dir, host.home, {n: v for n, v in host.environ.items() if n != "TOKEN"})
    bench.runtime = replace(bench.runtime, host=bare)
    assert prove(bench.runtime, BOTTLE).action == "proved"
    assert bench.people.asked == []
