"""Adopt, replace, start, remove, refuse: what `plan.diff` decides is what every backend does."""

from __future__ import annotations

import pytest

from bottle_fsm.errors import DecisionNeededError, LaunchFailedError
from bottle_fsm.store import kinds
from contract.contract_place import Place


def test_changes_nothing_of_a_bottle_that_is_as_planned(home: Place) -> None:
    before = home.raw()
    assert home.apply().action == "unchanged"
    assert home.raw() == before


def test_asks_before_it_makes_an_agent_again_and_then_makes_only_what_changed(worn_home: Place) -> None:
    before = worn_home.raw()
    worn_home.write(greeting="good morning", allow="example.net")
    with pytest.raises(DecisionNeededError, match="made again") as caught:
        worn_home.apply()
    assert caught.value.exit_code == 4
    assert worn_home.raw() == before
    assert worn_home.record.outcome == "ready"
    worn_home.people.yes = True
    assert worn_home.apply().action == "revised"
    worn_home.people.yes = False
    ids = {r.role: r.id for r in before}
    assert {role for role in ids if worn_home.ids()[role] != ids[role]} == {"guard", "interceptor", "agent"}
    revised = next(e for e in reversed(worn_home.events(kinds.DONE)) if e.trigger == "revise")
    for key in ("egress.allow", "env.GREETING"):
        assert f"manifest.bottles.dev.{key}" in revised.cause
    worn_home.condition = "well"


def test_removes_duplicates_of_ours(home: Place) -> None:
    before = home.ids()
    twin = home.plant_ours(home.outermost, spec="another")
    home.effect("start_proxies")
    assert twin not in {r.id for r in home.raw()}
    assert home.ids() == before


def test_takes_the_name_back_from_an_older_launch(place: Place) -> None:
    place.plan_only()
    old = {place.plant_ours(role, launch="an-older-one", epoch=0) for role in (place.outermost, "guard")}
    place.effect("start_proxies")
    found = place.raw()
    assert not old & {r.id for r in found}
    assert sorted(r.role for r in found) == sorted(set(place.roles) - {"interceptor", "agent"})
    place.undo("start_proxies")
    assert place.raw() == []


def test_never_touches_a_foreign_container_that_has_our_name(place: Place) -> None:
    foreign = place.plant("container", place.name_of("guard"), {"owner": "somebody"})
    before = place.raw()
    with pytest.raises(LaunchFailedError, match="is not ours") as caught:
        place.apply()
    assert caught.value.exit_code == 5
    assert place.raw() == before
    assert [r.id for r in before] == [foreign]
    assert {e.error for e in place.events(kinds.FAILED)} == {"name_taken"}
