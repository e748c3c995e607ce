"""What an earlier state promised is looked at before and after each effect, and the lock directly before it."""

from __future__ import annotations

import pytest

from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.errors import LaunchFailedError, LockLostError
from bottle_fsm.model import Event, Launch
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.runner.drive import MAX_REPAIRS
from bottle_fsm.steps import Steps
from bottle_fsm.store import kinds
from runner_bench import BOTTLE, Bench


def test_does_not_believe_an_effect_that_did_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(self: FakeBackend, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        """Claim that the agent is up."""

    monkeypatch.setattr(FakeBackend, "start_agent", idle)
    with pytest.raises(LaunchFailedError, match=r"agent claude-bottle-one-\w+: not found"):
        bench.apply()
    assert "agent_up" not in [e.dest for e in bench.people.events if e.kind == kinds.DONE]
    assert bench.record.outcome == "torn_down"


def test_repairs_a_promise_that_broke_on_the_way_up(bench: Bench) -> None:
    lost: list[str] = []

    def lose_the_guard(event: Event) -> None:
        if event.kind == kinds.DONE and event.dest == "mitm_up" and not lost:
            lost.append(bench.objects()["guard"].id)
            bench.world.remove(lost[0])

    bench.people.on_event = lose_the_guard
    assert bench.apply().action == "launched"
    assert bench.objects()["guard"].id != lost[0]
    assert "repair" in [e.trigger for e in bench.people.events if e.kind == kinds.DONE]


def test_gives_up_when_a_promise_breaks_again_and_again(bench: Bench) -> None:
    def always_lose_the_guard(event: Event) -> None:
        if event.kind == kinds.DONE and event.dest == "mitm_up":
            bench.world.remove(bench.objects()["guard"].id)

    bench.people.on_event = always_lose_the_guard
    with pytest.raises(LaunchFailedError, match=r"guard claude-bottle-pipelock-one-\w+: not found"):
        bench.apply()
    repairs = [e for e in bench.people.events if e.kind == kinds.DONE and e.trigger == "repair"]
    assert len(repairs) == MAX_REPAIRS
    assert bench.world.objects() == []


def test_never_starts_the_agent_when_a_sidecar_died_just_before(bench: Bench) -> None:
    seen: list[dict[str, str]] = []

    def look(event: Event) -> None:
        if event.kind == kinds.STEP_INTENT and event.evidence["step"] == "start agent":
            seen.append({r: o.state for r, o in bench.objects().items()})

    bench.people.on_event = look
    bench.apply()
    bench.world.restart()
    bench.apply()
    assert len(seen) == 2
    assert all(states["guard"] == states["interceptor"] == "running" for states in seen)


@pytest.mark.parametrize("after", [kinds.INTENT, kinds.STEP_INTENT, kinds.STEP_DONE])
def test_does_and_writes_nothing_more_once_the_lock_is_lost(after: str, bench: Bench) -> None:
    """Another process took the bottle over: a restored lock directory, or a lock file whose holder lost it."""
    left: dict[str, int] = {}

    def take_over(event: Event) -> None:
        if event.kind == after and event.trigger == "start_proxies" and not left:
            bench.runtime.journal.take(BOTTLE, command="somebody else")
            left["objects"] = len(bench.world.objects())
            left["events"] = len(bench.kinds())

    bench.people.on_event = take_over
    with pytest.raises(LockLostError, match="epoch 2, ours is 1") as caught:
        bench.apply()
    assert caught.value.exit_code == 3
    assert len(bench.kinds()) == left["events"]
    # What was begun before the loss may still arrive; nothing is begun after it, and nothing is taken away.
    allowed = 1 if after == kinds.STEP_INTENT else 0
    assert len(bench.world.objects()) <= left["objects"] + allowed


def test_asks_for_the_lock_before_an_effect_that_has_no_sub_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    acted: list[str] = []

    def act(self: FakeBackend, plan: BottlePlan, launch: Launch, steps: Steps) -> None:
        acted.append("start_proxies")

    def take_over(event: Event) -> None:
        if event.kind == kinds.INTENT and event.trigger == "start_proxies":
            bench.runtime.journal.take(BOTTLE, command="somebody else")

    monkeypatch.setattr(FakeBackend, "start_proxies", act)
    bench.people.on_event = take_over
    with pytest.raises(LockLostError):
        bench.apply()
    assert acted == []
