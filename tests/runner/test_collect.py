"""Garbage: found by label, told with its cause, removed under the bottle's lock; nothing else is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pytest

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.backend.fake.world import Fault
from bottle_fsm.errors import (
    BackendError,
    DecisionNeededError,
    EngineUnavailableError,
    InterruptedLaunchError,
    LockHeldError,
)
from bottle_fsm.model import Host, Json, Launch, Resource
from bottle_fsm.naming import Labels
from bottle_fsm.runner.collect import Collected, Found, Stray, collect, find
from bottle_fsm.runner.verbs import destroy
from bottle_fsm.store import kinds
from bottle_fsm.store.lock import BottleLock
from bottle_fsm.store.record import fold
from runner_bench import BOTTLE, Bench

NEW = 9999


def look(bench: Bench, *, all_roots: bool = False, today: Collection[str] = ("fake",)) -> Found:
    runtime = bench.runtime
    return find(runtime.journal, runtime.host, runtime.make_backend, today=today, all_roots=all_roots)


def plant(bench: Bench, name: str, kind: str = "container", networks: list[str] | None = None, **labels: object) -> str:
    own: dict[str, object] = {
        "root": bench.runtime.root.root_id, "bottle": BOTTLE, "launch": "elsewhere", "role": "guard", "step": "x",
        "spec": "s", "epoch": 1,
    }  # fmt: skip
    made = Labels(**{**own, **labels})  # type: ignore[arg-type]  # values as the labels have them
    return bench.world.create(kind, name, made.as_dict(), networks=networks)


def gone_launch(bench: Bench) -> str:
    """Launch and take away; return the launch's id."""
    bench.apply()
    launch = bench.record.launch
    destroy(bench.runtime, BOTTLE, discard=True)
    return launch


def names(strays: Collection[Stray]) -> list[str]:
    return [s.resource.name for s in strays]


def ids(bench: Bench) -> set[str]:
    return {o.id for o in bench.world.objects()}


def test_finds_nothing_where_everything_belongs_to_a_live_bottle(bench: Bench) -> None:
    bench.apply()
    assert look(bench) == Found()


def test_removes_what_a_launch_that_was_torn_down_left(bench: Bench) -> None:
    launch = gone_launch(bench)
    network = plant(bench, "a-late-network", "network", launch=launch, role="net-inside")
    plant(bench, "z-late-guard", launch=launch, networks=[network])
    found = look(bench)
    assert names(found.strays) == ["z-late-guard", "a-late-network"], "members go before their networks"
    assert {s.cause for s in found.strays} == {f"its launch {launch} was torn down"}
    done = collect(bench.runtime, found.strays)
    assert (names(done.removed), done.left, done.skipped, done.errors) == (names(found.strays), (), (), ())
    assert bench.world.objects() == []
    assert bench.record.outcome == "torn_down"


def test_leaves_the_live_launch_alone_that_superseded_the_other(bench: Bench) -> None:
    before = gone_launch(bench)
    bench.apply()
    alive = ids(bench)
    plant(bench, "late", launch=before)
    found = look(bench)
    assert [s.cause for s in found.strays] == [f"its launch {before} was superseded by {bench.record.launch}"]
    collect(bench.runtime, found.strays)
    assert ids(bench) == alive
    assert bench.record.outcome == "ready"
    assert bench.apply().action == "unchanged"


def test_journals_each_removal_under_an_epoch_of_its_own(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    before = bench.record
    collect(bench.runtime, look(bench).strays)
    events = [e for e in bench.runtime.journal.events(bottle=BOTTLE) if e.sequence > before.sequence]
    assert [e.kind for e in events] == [kinds.LOCK, kinds.STEP_INTENT, kinds.STEP_DONE]
    assert {e.epoch for e in events} == {before.epoch + 1}
    assert {(e.trigger, e.launch, e.cause) for e in events[1:]} == {
        ("gc", launch, f"gc: its launch {launch} was torn down")
    }
    assert events[-1].resources[0]["state"] == "absent"
    assert fold(bench.runtime.journal.events()).get(BOTTLE) == bench.record


def test_removes_what_an_unknown_launch_made_long_ago(bench: Bench) -> None:
    bench.apply()
    plant(bench, "stray", epoch=bench.record.epoch)
    found = look(bench)
    assert [s.cause for s in found.strays] == ["its launch elsewhere is unknown to this journal"]
    assert names(collect(bench.runtime, found.strays).removed) == ["stray"]


def test_never_touches_what_is_newer_than_the_journal(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "newer", epoch=NEW)
    plant(bench, "late", launch=launch)
    before = ids(bench)
    found = look(bench)
    assert [s.undecided for s in found.strays] == [True, True], "the whole bottle is left to a person"
    assert f"newer (epoch {NEW}" in found.strays[1].cause
    assert collect(bench.runtime, found.strays) == Collected((), (), (), ())
    assert ids(bench) == before


def test_does_not_take_a_lock_that_was_only_taken_for_an_act(bench: Bench) -> None:
    """A restored journal whose owner tried in vain counts epochs up; that makes no object older."""
    gone_launch(bench)
    plant(bench, "newer", epoch=bench.record.epoch + 1)
    bench.runtime.journal.take(BOTTLE, command="apply")
    bench.runtime.journal.take(BOTTLE, command="apply")
    assert [s.undecided for s in look(bench).strays] == [True]


def test_never_touches_foreign_objects_or_those_of_another_root(bench: Bench) -> None:
    bench.world.create("container", "foreign", {"some": "label"})
    plant(bench, "theirs", root="another-root")
    bench.world.create("container", "half", {"bottle-fsm.root": bench.runtime.root.root_id})
    before = ids(bench)
    assert look(bench) == Found()
    found = look(bench, all_roots=True)
    assert found.strays == ()
    assert [(r.name, r.detail["root"]) for r in found.others] == [("theirs", "another-root")]
    assert ids(bench) == before


def test_skips_a_bottle_that_another_process_works_on(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    found = look(bench)
    with BottleLock(bench.runtime.root.path, BOTTLE, command="apply"):
        done = collect(bench.runtime, found.strays)
    assert done.skipped == (BOTTLE,)
    assert [type(e) for e in done.errors] == [LockHeldError]
    assert names(done.left) == ["late"]
    assert len(ids(bench)) == 1


def test_names_what_could_not_be_removed(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    plant(bench, "later", launch=launch)
    bench.world.inject(Fault("remove", "refuse", times=1))
    done = collect(bench.runtime, look(bench).strays)
    assert (names(done.left), names(done.removed)) == (["late"], ["later"])
    assert [e.problem for e in done.errors] == ["the engine refuses to remove guard"]


def test_believes_a_removal_only_when_it_looked_again(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    found = look(bench)
    bench.world.inject(Fault("remove", "lose_reply", times=1))
    assert names(collect(bench.runtime, found.strays).removed) == ["late"], "done, though an error came back"
    plant(bench, "late", launch=launch)
    found = look(bench)
    bench.world.inject(Fault("list", "unavailable", times=1))
    done = collect(bench.runtime, found.strays)
    assert names(done.left) == ["late"], "an engine that does not answer proves nothing"


def test_stops_between_two_removals_when_asked(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    plant(bench, "later", launch=launch)
    found = look(bench)
    bench.people.on_event = lambda e: bench.runtime.stop.request(15) if e.kind == kinds.STEP_DONE else None
    with pytest.raises(InterruptedLaunchError):
        collect(bench.runtime, found.strays)
    assert [o.name for o in bench.world.objects()] == ["later"]


def test_does_not_remove_what_came_to_life_meanwhile(bench: Bench) -> None:
    bench.apply()
    resource = FakeBackend(bench.runtime.host).everything(bench.runtime.root.root_id)[0]
    stray = Stray(resource, BOTTLE, FakeBackend(bench.runtime.host), "a look from before")
    before = ids(bench)
    done = collect(bench.runtime, [stray])
    assert [type(e) for e in done.errors] == [DecisionNeededError]
    assert ids(bench) == before


def test_looks_at_recorded_engines_whatever_today_says(bench: Bench) -> None:
    launch = gone_launch(bench)
    plant(bench, "late", launch=launch)
    assert names(look(bench, today=()).strays) == ["late"]


def test_says_which_recorded_engine_it_could_not_look_at(bench: Bench) -> None:
    bench.apply()
    bench.world.restart(identity=True)
    found = look(bench)
    assert [type(e) for e in found.unreachable] == [DecisionNeededError]
    assert "another engine answers" in found.unreachable[0].problem


def test_notes_an_engine_of_today_that_does_not_answer(bench: Bench) -> None:
    def make(name: str, host: Host, endpoint: Json) -> BottleBackend:
        if name == "docker":
            raise EngineUnavailableError("nothing answers")
        return FakeBackend(host)

    bench.runtime = dataclasses.replace(bench.runtime, make_backend=make)
    found = look(bench, today=("docker", "fake"))
    assert (found.unreachable, found.notes) == ((), ("today's docker engine was not looked at: nothing answers",))


def test_notes_a_recorded_engine_that_stops_answering(bench: Bench) -> None:
    bench.apply()
    bench.world.inject(Fault("list", "unavailable", times=1))
    assert [type(e) for e in look(bench).unreachable] == [EngineUnavailableError]


def test_has_a_default_that_lists_nothing_and_removes_nothing(bench: Bench) -> None:
    backend = FakeBackend(bench.runtime.host)
    assert BottleBackend.everything(backend, None) == ()
    thing = Resource("container", "guard", "thing", "1")
    with pytest.raises(BackendError, match="cannot remove a single object"):
        BottleBackend.remove(backend, thing, None, cause="x")  # type: ignore[arg-type]  # it is not looked at
    assert backend.observe(Launch("r", BOTTLE, "L", "s", 1)).resources == ()
