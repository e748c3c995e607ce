"""`apply` on the fake backend: launch, adopt, repair, revise, fail, go down."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from bottle_fsm import naming
from bottle_fsm.backend.fake.world import Fault, Mishap
from bottle_fsm.errors import (
    DecisionNeededError,
    InterruptedLaunchError,
    LaunchFailedError,
    TeardownIncompleteError,
    ValidationError,
)
from bottle_fsm.model import Event
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import OnFailure, destroy, resume
from bottle_fsm.store import kinds
from runner_bench import BOTTLE, MANIFEST, Bench

STATES = ["declared", "validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted", "provisioned"]


def moves(bench: Bench) -> list[str]:
    events = bench.runtime.journal.events(bottle=BOTTLE, launch=bench.record.launch)
    return [e.dest for e in events if e.kind in {kinds.DECLARED, kinds.DONE, kinds.SKIPPED}]


def test_walks_through_every_state_and_records_each_move(bench: Bench) -> None:
    outcome = bench.apply()
    assert outcome.action == "launched"
    assert moves(bench) == STATES
    assert (bench.record.state, bench.record.outcome) == ("provisioned", "ready")
    assert sorted(bench.objects()) == sorted(
        ["net-inside", "net-between", "net-outside", "guard", "interceptor", "agent"]
    )


def test_commits_every_intent_before_the_world_changes(bench: Bench) -> None:
    seen: dict[int, set[str]] = {}

    def look(event: Event) -> None:
        seen[event.sequence] = {o.name for o in bench.world.objects()}

    bench.people.on_event = look
    bench.apply()
    steps = [e for e in bench.people.events if e.kind == kinds.STEP_INTENT and e.evidence["step"].startswith("create")]
    assert len(steps) == 6
    for event in steps:
        name = naming.object_name(event.evidence["role"], bench.record.slug)
        assert name not in seen[event.sequence]
        done = next(e for e in bench.people.events if e.sequence > event.sequence and e.kind == kinds.STEP_DONE)
        assert name in seen[done.sequence]


def test_provisions_in_the_one_order(bench: Bench) -> None:
    bench.apply()
    events = bench.runtime.journal.events(bottle=BOTTLE)
    kept = {kinds.STEP_DONE, kinds.STEP_SKIPPED}
    steps = [e.evidence["step"] for e in events if e.kind in kept and e.trigger == "provision"]
    assert steps == ["ca", "prompt", "skills", "ssh", "git"]


def test_labels_every_object_with_owner_role_spec_and_epoch(bench: Bench) -> None:
    bench.apply()
    for role, found in bench.objects().items():
        labels = naming.Labels.of(found.labels)
        assert labels is not None
        assert (labels.root, labels.bottle, labels.role) == (bench.runtime.root.root_id, BOTTLE, role)
        assert (labels.launch, labels.epoch) == (bench.record.launch, 1)
        assert labels.spec
        assert labels.step == f"create {role}"


def test_changes_nothing_the_second_time(bench: Bench) -> None:
    bench.apply()
    before = {r: o.id for r, o in bench.objects().items()}
    assert bench.apply().action == "unchanged"
    assert {r: o.id for r, o in bench.objects().items()} == before


def test_leaves_no_secret_in_any_byte_of_the_state_directory(bench: Bench) -> None:
    bench.apply()
    for path in bench.runtime.root.path.rglob("*"):
        if path.is_file():
            assert b"canary-0123456789abcdef" not in path.read_bytes(), path


@pytest.mark.parametrize("role", ["guard", "interceptor", "agent", "net-inside"])
def test_repairs_what_was_removed_by_hand_and_names_the_cause(role: str, bench: Bench) -> None:
    bench.apply()
    lost = bench.objects()[role]
    for found in bench.world.objects():
        if lost.id in found.networks:
            bench.world.remove(found.id)
    bench.world.remove(lost.id)
    bench.people.yes = True
    outcome = bench.apply()
    assert outcome.action == "repaired"
    assert bench.objects()[role].id != lost.id
    repair = next(e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.trigger == "repair")
    assert f"{role} {lost.name}: not found" in repair.cause


def test_starts_a_stopped_agent_again_instead_of_making_it_again(bench: Bench) -> None:
    bench.apply()
    before = bench.objects()["agent"].id
    bench.world.restart()
    assert bench.apply().action == "repaired"
    found = bench.objects()["agent"]
    assert (found.id, found.state) == (before, "running")


def test_renews_trust_when_the_interceptor_has_another_ca(bench: Bench) -> None:
    bench.apply()
    old = bench.record.facts["ca_sha256"]
    agent = bench.objects()["agent"].id
    bench.world.remove(bench.objects()["interceptor"].id)
    bench.apply()
    assert bench.record.facts["ca_sha256"] != old
    assert bench.record.evidence["ca_sha256"] == bench.record.facts["ca_sha256"]
    assert bench.objects()["agent"].id == agent


def test_notices_an_agent_that_lost_the_ca(bench: Bench) -> None:
    bench.apply()
    bench.world.put(
        bench.objects()["agent"].id, "/usr/local/share/ca-certificates/claude-bottle-mitm.crt", "644 root AA=="
    )
    outcome = bench.apply()
    assert outcome.action == "repaired"
    repair = next(e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.trigger == "repair")
    assert repair.cause == "the agent does not trust the bottle's CA"


@pytest.mark.parametrize("mishap", ["transient", "lose_reply", "late", "unavailable"])
@pytest.mark.parametrize("op", ["create", "start"])
def test_retries_as_declared_and_ends_with_one_of_each(op: str, mishap: Mishap, bench: Bench) -> None:
    bench.world.inject(Fault(op, mishap, role="guard"))
    assert bench.apply().action == "launched"
    assert [o.labels["bottle-fsm.role"] for o in bench.world.objects()].count("guard") == 1
    failed = bench.last(kinds.FAILED)
    assert failed.attempt == 1
    assert failed.evidence["retry_in"] > 0


def test_gives_up_after_the_declared_attempts(bench: Bench) -> None:
    bench.world.inject(Fault("create", "transient", role="guard", times=99))
    with pytest.raises(LaunchFailedError, match=r"after planned.*taken away again"):
        bench.apply()
    failed = [e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.kind == kinds.FAILED]
    assert [e.attempt for e in failed] == [1, 2, 3]
    assert bench.world.objects() == []


def test_takes_everything_away_when_the_launch_fails(bench: Bench) -> None:
    bench.world.inject(Fault("start", "exits", role="interceptor", times=9))
    with pytest.raises(LaunchFailedError, match="interceptor ended with code 1") as caught:
        bench.apply()
    assert caught.value.exit_code == 5
    assert bench.world.objects() == []
    assert bench.record.outcome == "torn_down"
    undone = [e.trigger for e in bench.runtime.journal.events(bottle=BOTTLE) if e.kind == kinds.UNDO_DONE]
    assert undone == ["start_mitm", "start_proxies"]


def test_looks_twice_before_it_says_torn_down(bench: Bench) -> None:
    bench.apply()
    bench.people.yes = True
    destroy(bench.runtime, BOTTLE)
    seen = bench.last(kinds.OBSERVED).evidence
    first, second = seen["looks"]
    assert second - first >= seen["settle"] > 0


def test_keeps_a_failed_launch_when_asked_and_resumes_it(bench: Bench) -> None:
    bench.world.inject(Fault("start", "exits", role="interceptor"))
    with pytest.raises(LaunchFailedError, match="kept as it is"):
        bench.apply("keep")
    guard = bench.objects()["guard"].id
    assert (bench.record.outcome, bench.record.state) == ("failed", "proxies_up")
    assert resume(bench.runtime, BOTTLE).action == "resumed"
    assert bench.objects()["guard"].id == guard
    assert bench.record.outcome == "ready"


def test_never_destroys_a_provisioned_bottle_by_itself(bench: Bench) -> None:
    bench.apply()
    agent = bench.objects()["agent"].id
    bench.world.remove(bench.objects()["interceptor"].id)
    bench.world.inject(Fault("start", "exits", role="interceptor", times=9))
    with pytest.raises(LaunchFailedError, match="kept as it is"):
        bench.apply("teardown")
    assert bench.objects()["agent"].id == agent


def test_asks_before_it_makes_an_agent_again(bench: Bench) -> None:
    bench.apply()
    agent = bench.objects()["agent"].id
    bench.write(MANIFEST.replace("some-image:latest", "some-image:newer"))
    with pytest.raises(DecisionNeededError, match=r"made again \(manifest changed: image\)") as caught:
        bench.apply()
    assert caught.value.exit_code == 4
    assert bench.objects()["agent"].id == agent
    assert bench.record.outcome == "ready"
    bench.people.yes = True
    assert bench.apply().action == "revised"
    assert bench.objects()["agent"].id != agent


def test_keeps_the_agent_when_only_the_policy_changed(bench: Bench) -> None:
    bench.apply()
    before = {r: o.id for r, o in bench.objects().items()}
    bench.write(MANIFEST.replace("[example.org]", "[example.org, example.net]"))
    assert bench.apply().action == "revised"
    after = {r: o.id for r, o in bench.objects().items()}
    assert after["agent"] == before["agent"]
    assert after["guard"] != before["guard"]
    revised = next(e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.trigger == "revise")
    assert "manifest changed: manifest.bottles.dev.egress.allow" in revised.cause


def test_refuses_another_manifest_under_the_same_name(bench: Bench) -> None:
    bench.apply()
    other = bench.folder / "other"
    other.mkdir()
    (other / "manifest.yaml").write_text(MANIFEST)
    original = bench.folder
    bench.folder = other
    with pytest.raises(DecisionNeededError, match=r"--name") as caught:
        bench.apply()
    assert str(original / "manifest.yaml") in str(caught.value)
    assert str(other / "manifest.yaml") in str(caught.value)


def test_never_touches_a_foreign_object_that_has_our_name(bench: Bench) -> None:
    slug = naming.slug(bench.runtime.root.root_id, "demo", "one")
    foreign = bench.world.create("container", naming.object_name("guard", slug), {"owner": "somebody"})
    with pytest.raises(LaunchFailedError, match="is not ours"):
        bench.apply()
    assert [o.id for o in bench.world.objects()] == [foreign]


def test_refuses_to_act_when_the_world_is_newer_than_the_journal(bench: Bench) -> None:
    bench.apply()
    guard = bench.objects()["guard"]
    bench.world.remove(guard.id)
    bench.world.create("container", guard.name, {**guard.labels, "bottle-fsm.epoch": "99"})
    before = {o.id for o in bench.world.objects()}
    with pytest.raises(DecisionNeededError, match="epoch 99"):
        bench.apply()
    assert {o.id for o in bench.world.objects()} == before


def test_refuses_another_engine_at_the_recorded_endpoint(bench: Bench) -> None:
    bench.apply()
    bench.world.restart(identity=True)
    with pytest.raises(DecisionNeededError, match="another engine"):
        bench.apply()
    bench.people.yes = True
    with pytest.raises(DecisionNeededError, match="another engine"):
        destroy(bench.runtime, BOTTLE)
    assert bench.record.outcome == "ready"


def test_reports_what_this_host_lacks_and_leaves_nothing(bench: Bench) -> None:
    bench.write(MANIFEST.replace("    prompt:", "    skills: [./nowhere]\n    prompt:"))
    with pytest.raises(ValidationError, match="nowhere") as caught:
        bench.apply()
    assert caught.value.exit_code == 1
    assert bench.world.objects() == []
    assert bench.record.outcome == "torn_down"


def test_begins_a_new_launch_after_a_teardown(bench: Bench) -> None:
    bench.apply()
    first = bench.record.launch
    bench.people.yes = True
    destroy(bench.runtime, BOTTLE)
    assert bench.apply().action == "launched"
    assert bench.record.launch != first


def test_removes_what_arrived_after_the_teardown(bench: Bench) -> None:
    bench.apply()
    guard = bench.objects()["guard"]
    bench.people.yes = True
    destroy(bench.runtime, BOTTLE)
    bench.world.create("container", guard.name, guard.labels)
    assert destroy(bench.runtime, BOTTLE).action == "nothing"
    assert bench.world.objects() == []


def test_names_the_leftovers_of_a_teardown_that_failed(bench: Bench) -> None:
    bench.apply()
    bench.people.yes = True
    bench.world.inject(Fault("remove", "refuse", role="guard", times=2))
    with pytest.raises(TeardownIncompleteError, match=r"left over: .*claude-bottle-pipelock-.*destroy") as caught:
        destroy(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 6
    assert bench.record.outcome == "leftover"
    assert "guard" in bench.objects()
    assert "agent" not in bench.objects()
    assert destroy(bench.runtime, BOTTLE).action == "torn_down"
    assert bench.world.objects() == []


def test_only_goes_down_once_a_compensation_was_begun(bench: Bench) -> None:
    bench.apply()
    bench.people.yes = True
    bench.world.inject(Fault("remove", "refuse", role="guard", times=2))
    with pytest.raises(TeardownIncompleteError):
        destroy(bench.runtime, BOTTLE)
    assert resume(bench.runtime, BOTTLE).action == "torn_down"
    assert bench.world.objects() == []


def test_finishes_a_teardown_and_launches_anew_on_apply(bench: Bench) -> None:
    bench.apply()
    first = bench.record.launch
    bench.people.yes = True
    bench.world.inject(Fault("remove", "refuse", role="guard", times=2))
    with pytest.raises(TeardownIncompleteError):
        destroy(bench.runtime, BOTTLE)
    assert bench.apply().action == "launched"
    assert bench.record.launch != first
    assert len(bench.world.objects()) == 6


def test_reports_a_leaked_object_as_residue(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.apply()
    bench.people.yes = True
    monkeypatch.setattr("bottle_fsm.backend.fake.backend.FakeBackend.stop_agent", lambda self, launch, steps: None)
    with pytest.raises(TeardownIncompleteError, match=r"left over: container claude-bottle-one-"):
        destroy(bench.runtime, BOTTLE)
    assert bench.record.state != "torn_down"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_tears_down_after_a_signal(signum: int, bench: Bench) -> None:
    _stop_at(bench, signum)
    with pytest.raises(InterruptedLaunchError):
        bench.apply()
    assert bench.world.objects() == []
    assert bench.record.outcome == "torn_down"


@pytest.mark.parametrize(("signum", "policy"), [(signal.SIGHUP, "teardown"), (signal.SIGINT, "keep")])
def test_keeps_after_a_hangup_or_when_asked(signum: int, policy: OnFailure, bench: Bench) -> None:
    _stop_at(bench, signum)
    with pytest.raises(InterruptedLaunchError):
        bench.apply(policy)
    assert "guard" in bench.objects()
    assert bench.record.outcome == "interrupted"
    bench.runtime = replace(bench.runtime, stop=Stop())
    assert resume(bench.runtime, BOTTLE).action == "resumed"


def _stop_at(bench: Bench, signum: int) -> None:
    def stop(event: Event) -> None:
        if event.kind == kinds.STEP_DONE and event.evidence["step"] == "start interceptor":
            bench.runtime.stop.request(signum)

    bench.people.on_event = stop


def test_asks_before_it_destroys_what_was_handed_over(bench: Bench) -> None:
    bench.apply()
    with pytest.raises(DecisionNeededError, match=r"destroys demo/one.*--save DIR"):
        destroy(bench.runtime, BOTTLE)
    assert len(bench.world.objects()) == 6


def test_has_nothing_to_do_for_a_bottle_that_is_gone(bench: Bench) -> None:
    assert resume(bench.runtime, BOTTLE).action == "nothing"
    assert destroy(bench.runtime, BOTTLE).action == "nothing"
