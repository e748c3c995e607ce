"""All states that one launch can get into keep their promises: journal × world, walked breadth first."""

from __future__ import annotations

import pytest

from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.plan.diff import Operation
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.store import kinds
from bottle_fsm.store.record import TORN_DOWN, BottleRecord, fold
from crash_cases import BOTTLE, Place
from crash_model import SIDECARS, Model, State, explore, go_on

DEATHS, LOSSES = 2, 1


@pytest.fixture
def model(place: Place) -> Model:
    """The model of the launch that the sweep kills, made from its real plan and its real `declared` event."""
    place.act("apply")
    runtime = place.runtime()
    events = list(runtime.journal.events(bottle=BOTTLE))
    runtime.journal.close()
    declared = next(n for n, e in enumerate(events) if e.kind == kinds.DECLARED)
    plan = FakeBackend(runtime.host).load_plan(fold(events)[BOTTLE].plan_json)
    return Model(load_definition(), plan, fold(events[: declared + 1])[BOTTLE])


def _order(model: Model, record: BottleRecord) -> int:
    return model.definition.order.index(record.state)


def test_keeps_every_promise_in_every_reachable_state(model: Model) -> None:
    edges = explore(model, model.first(losses=LOSSES, deaths=DEATHS))
    states = {after.key for _, after in edges}
    print(f"{len(states)} states, {len(edges)} edges")  # noqa: T201 - the count is part of the result
    assert len(states) > 2000
    assert {after.record.state for _, after in edges} == set(model.definition.order)
    for before, after in edges:
        rises = _order(model, after.record) > _order(model, before.record)
        if after.record.state == TORN_DOWN and rises:
            assert not before.world, "torn down, and something is labelled"
        elif rises:
            assert model.unmet(before, after.record.state) == [], "done, and not observed"
        assert after.started == SIDECARS, "the agent was started without both sidecars"
        if before.owner and after.owner:
            assert before.owner.epoch == after.owner.epoch, "two owners"
        if after.owner and not before.owner:
            assert after.owner.epoch > before.record.epoch, "an owner without a new epoch"
        assert not (before.record.down and after.record.outcome == "ready"), "it went up after it began to go down"


def test_ends_from_every_reachable_state_and_two_resumes_equal_one(model: Model) -> None:
    edges = explore(model, model.first(losses=LOSSES, deaths=1))
    unique: dict[tuple[object, ...], State] = {}
    for _, after in edges:
        unique.setdefault((after.record.state, after.world, after.record.down, after.record.attempted), after)
    assert len(unique) > 100
    for state in unique.values():
        once = go_on(model, state)
        wanted = TORN_DOWN if state.record.down or state.record.state == TORN_DOWN else "provisioned"
        assert once.record.state == wanted
        assert len(once.world) == (0 if wanted == TORN_DOWN else 6)
        twice = go_on(model, once)
        assert (twice.record.state, twice.world) == (once.record.state, once.world)
        gone = go_on(model, state, down=True)
        assert (gone.record.state, gone.world) == (TORN_DOWN, frozenset())


class _Careless(Model):
    """A machine whose promises are believed without a look."""

    def unmet(self, state: State, name: str) -> list[Operation]:
        return []


def test_finds_out_a_launcher_that_does_not_look(model: Model) -> None:
    careless = _Careless(model.definition, model.plan, model.first(losses=0, deaths=0).record)
    edges = explore(careless, careless.first(losses=1, deaths=0))
    assert any(after.started != SIDECARS for _, after in edges)
    claimed = [after for _, after in edges if after.record.state == "provisioned"]
    assert any(model.unmet(after, "provisioned") for after in claimed)
