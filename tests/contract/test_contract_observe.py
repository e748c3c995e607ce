"""Looking: by label, at anything, without raising and without touching."""

from __future__ import annotations

import pytest

from bottle_fsm import naming
from bottle_fsm.errors import DecisionNeededError
from contract.contract_place import CONTAINERS, Place


def test_finds_all_of_a_launch_by_label(home: Place) -> None:
    observed = home.observe()
    assert {r.role: r.id for r in observed.ours} == home.ids()
    assert {r.role for r in observed.ours if r.state == "running"} == set(CONTAINERS)
    for resource in observed.ours:
        assert resource.launch == home.record.launch
        assert resource.name == home.name_of(resource.role)
        assert resource.foreign is False
        assert resource.spec


def test_sees_nothing_where_nothing_was_made(place: Place) -> None:
    place.plan_only()
    assert place.observe().resources == ()


def test_reports_foreign_objects_as_foreign_and_leaves_them_alone(place: Place) -> None:
    place.plan_only()
    container = place.plant("container", place.name_of("guard"), {"owner": "somebody"})
    network = place.plant("network", place.name_of("net-inside"), {})
    elsewhere = place.plant_ours("agent", root="another-root")
    before = place.raw()
    observed = place.observe()
    assert {r.id: r.role for r in observed.resources if r.foreign} == {
        container: "guard",
        network: "net-inside",
        elsewhere: "agent",
    }
    assert observed.ours == ()
    assert place.raw() == before


def test_never_raises_on_a_world_that_is_half_made(place: Place) -> None:
    place.plan_only()
    broken = {**place.labels(place.outermost), naming.LABEL_EPOCH: "not a number"}
    partial = place.plant("network", place.name_of(place.outermost), broken)
    created = place.plant_ours("agent")
    twin, other = place.plant_ours("net-inside"), place.plant_ours("net-inside")
    observed = place.observe()
    assert {r.id for r in observed.ours} == {created, twin, other}
    assert [r.id for r in observed.resources if r.foreign] == [partial]
    assert sorted(r.role for r in observed.ours) == ["agent", "net-inside", "net-inside"]


def test_refuses_to_judge_a_world_that_a_newer_owner_made(place: Place) -> None:
    place.plan_only()
    place.plant_ours(place.outermost, epoch=9999)
    with pytest.raises(DecisionNeededError, match="epoch 9999"):
        place.observe()


def test_sees_an_older_launch_of_the_same_bottle_as_ours(place: Place) -> None:
    place.plan_only()
    old = place.plant_ours("guard", launch="an-older-one", epoch=0)
    (found,) = place.observe().resources
    assert (found.id, found.launch, found.foreign) == (old, "an-older-one", False)
    assert set(place.roles) > {found.role}
