"""A launch of another machine version: goes on where that is declared, else says what to do; destroyed always."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from bottle_fsm.backend.fake.world import Fault
from bottle_fsm.errors import DecisionNeededError, LaunchFailedError, TeardownIncompleteError
from bottle_fsm.machine.definition import Definition, parse
from bottle_fsm.runner.registry import NAMES, load_definition
from bottle_fsm.runner.verbs import destroy, resume
from bottle_fsm.store import kinds
from bottle_fsm.store.record import fold
from runner_bench import BOTTLE, Bench

Change = Callable[[dict[str, Any]], object]


def edge(raw: dict[str, Any], trigger: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in raw["transitions"] if t["trigger"] == trigger)
    return found


def other(change: Change = lambda raw: None, *, migrates_from: tuple[str, ...] = ()) -> Definition:
    """The shipped machine, changed: another version."""
    raw = copy.deepcopy(load_definition().raw)
    raw["migrates_from"] = list(migrates_from)
    change(raw)
    names = {t[key] for t in raw["transitions"] for key in ("effect", "observe", "compensate") if key in t}
    return parse(raw, place="bottle.yaml", names=NAMES | names)


def under(bench: Bench, definition: Definition) -> None:
    """Go on as a bottle-fsm that has this machine."""
    bench.runtime = dataclasses.replace(bench.runtime, definition=definition)


def interrupted(bench: Bench, made_by: Definition) -> None:
    """Leave a launch of a version in the middle, with its networks and its guard up."""
    under(bench, made_by)
    bench.world.inject(Fault("start", "exits", role="interceptor", times=1))
    with pytest.raises(LaunchFailedError):
        bench.apply("keep")
    assert (bench.record.state, bench.record.machine) == ("proxies_up", made_by.version)


def longer(raw: dict[str, Any]) -> None:
    edge(raw, "plan")["deadline"] = 121


def renamed_state(raw: dict[str, Any]) -> None:
    for state in raw["states"]:
        state["name"] = state["name"].replace("proxies_up", "guard_up")
    for transition in raw["transitions"]:
        transition["source"] = [s.replace("proxies_up", "guard_up") for s in transition["source"]]
        transition["dest"] = transition["dest"].replace("proxies_up", "guard_up")


def unknown_effect(raw: dict[str, Any]) -> None:
    edge(raw, "provision")["effect"] = "fill"


def unknown_undo(raw: dict[str, Any]) -> None:
    edge(raw, "start_proxies")["compensate"] = "stop_everything"


def renamed_trigger(raw: dict[str, Any]) -> None:
    edge(raw, "start_proxies")["trigger"] = "start_guard"


@pytest.mark.parametrize("verb", ["apply", "resume"])
def test_goes_on_where_it_is_declared_and_adopts_what_is_there(verb: str, bench: Bench) -> None:
    old, new = other(longer), other(migrates_from=(other(longer).version,))
    interrupted(bench, old)
    before = {o.id for o in bench.world.objects() if o.state != "exited"}
    under(bench, new)
    done = bench.apply("keep") if verb == "apply" else resume(bench.runtime, BOTTLE)
    assert done.action == "resumed"
    assert before <= {o.id for o in bench.world.objects()}
    assert (bench.record.outcome, bench.record.machine) == ("ready", new.version)
    moved = bench.last(kinds.MIGRATED)
    assert (moved.machine, moved.evidence, moved.source, moved.dest) == (
        new.version, {"from": old.version}, "proxies_up", "proxies_up",
    )  # fmt: skip
    known = {e.machine for e in bench.runtime.journal.events(kind=kinds.MACHINE)}
    assert (
        {e.machine for e in bench.runtime.journal.events(bottle=BOTTLE)} - {""} == known == {old.version, new.version}
    )
    assert fold(bench.runtime.journal.events())[BOTTLE] == bench.record


def test_takes_a_ready_bottle_over_once_and_changes_nothing_of_it(bench: Bench) -> None:
    under(bench, other(longer))
    bench.apply()
    before = bench.objects()
    under(bench, other(migrates_from=(other(longer).version,)))
    assert [bench.apply().action, bench.apply().action] == ["unchanged", "unchanged"]
    assert bench.objects() == before
    assert bench.kinds().count(kinds.MIGRATED) == 1


@pytest.mark.parametrize("verb", ["apply", "resume"])
def test_refuses_what_nobody_declared_and_says_what_to_do(verb: str, bench: Bench) -> None:
    old = other(longer)
    interrupted(bench, old)
    before, record = bench.objects(), bench.record
    under(bench, other())
    with pytest.raises(DecisionNeededError, match=f"made under machine version {old.version}") as caught:
        bench.apply() if verb == "apply" else resume(bench.runtime, BOTTLE)
    assert caught.value.exit_code == 4
    assert caught.value.hint == (
        f"Go on with the bottle-fsm that made it, or take it away with `bottle-fsm destroy {BOTTLE}`."
    )
    assert bench.objects() == before
    assert dataclasses.replace(bench.record, epoch=record.epoch, sequence=record.sequence) == record
    assert bench.kinds()[-1] == kinds.LOCK
    under(bench, old)
    assert resume(bench.runtime, BOTTLE).action == "resumed", "the version that made it goes on"


def test_refuses_a_declaration_that_does_not_know_the_launchs_state(bench: Bench) -> None:
    old = other(renamed_state)
    under(bench, old)
    bench.world.inject(Fault("start", "exits", role="interceptor", times=1))
    with pytest.raises(LaunchFailedError):
        bench.apply("keep")
    assert bench.record.state == "guard_up"
    under(bench, other(migrates_from=(old.version,)))
    with pytest.raises(DecisionNeededError, match="does not take it over"):
        resume(bench.runtime, BOTTLE)


CHANGES: list[Change] = [longer, renamed_state, renamed_trigger, unknown_effect, unknown_undo]


@pytest.mark.parametrize("change", CHANGES, ids=[c.__name__ for c in CHANGES])
def test_destroys_a_launch_of_any_version(change: Change, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old = other(change)
    with monkeypatch.context() as then:  # the bottle-fsm of then had these functions
        then.setattr("bottle_fsm.runner.drive.EFFECTS", _with(unknown_effect, change))
        under(bench, old)
        bench.world.inject(Fault("start", "exits", role="interceptor", times=1))
        with pytest.raises(LaunchFailedError):
            bench.apply("keep")
    assert bench.objects()
    under(bench, load_definition())
    assert destroy(bench.runtime, BOTTLE).action == "torn_down"
    assert bench.world.objects() == []
    assert (bench.record.outcome, bench.record.machine) == ("torn_down", old.version)
    assert bench.runtime.definition == load_definition()
    assert bench.apply().action == "launched", "the next launch is made under today's machine"
    assert bench.record.machine == load_definition().version


def _with(marker: Change, change: Change) -> dict[str, Any]:
    from bottle_fsm.runner.registry import EFFECTS  # noqa: PLC0415 - as it is before it is replaced

    return {**EFFECTS, "fill": EFFECTS["provision"]} if change is marker else dict(EFFECTS)


def test_says_so_when_neither_version_can_undo_it(bench: Bench) -> None:
    def foreign(raw: dict[str, Any]) -> None:
        renamed_state(raw)
        unknown_undo(raw)

    old = other(foreign)
    under(bench, old)
    bench.world.inject(Fault("start", "exits", role="interceptor", times=1))
    with pytest.raises(LaunchFailedError):
        bench.apply("keep")
    before = bench.objects()
    under(bench, load_definition())
    with pytest.raises(DecisionNeededError, match="nobody here knows how to undo"):
        destroy(bench.runtime, BOTTLE)
    assert bench.objects() == before


def test_finishes_a_teardown_of_another_version_then_launches_anew(bench: Bench) -> None:
    interrupted(bench, other(longer))
    bench.world.inject(Fault("remove", "refuse", role="guard", times=2))
    with pytest.raises(TeardownIncompleteError):
        destroy(bench.runtime, BOTTLE)
    under(bench, load_definition())
    assert bench.apply().action == "launched"
    assert bench.record.machine == load_definition().version
    assert len(bench.world.objects()) == 6
