"""Adopt, replace, start, remove, refuse: what `plan.diff` decides is what every backend does."""

from __future__ import annotations

import pytest

from bottle_fsm.errors import BackendError, DecisionNeededError, LaunchFailedError
from bottle_fsm.places import AGENT_ENV_FILE
from bottle_fsm.store import kinds
from contract.contract_place import CANARY, CONTAINERS, Place
from contract.contract_steps import reaped


def test_changes_nothing_of_a_bottle_that_is_as_planned(home: Place) -> None:
    before = home.raw()
    assert home.apply().action == "unchanged"
    assert home.raw() == before


def test_starts_a_stopped_agent_again_with_its_files_and_secrets(worn_home: Place) -> None:
    before = worn_home.ids()
    worn_home.bottle().copy_in(b"a day's work", "/workspace/work.txt")
    secrets = worn_home.bottle().read_file(AGENT_ENV_FILE)
    worn_home.halt(before["agent"])
    assert worn_home.apply().action == "repaired"
    assert worn_home.ids() == before
    bottle = worn_home.bottle()
    assert bottle.read_file("/workspace/work.txt") == b"a day's work"
    assert bottle.read_file(AGENT_ENV_FILE) == secrets
    assert b"TOKEN" in secrets
    if worn_home.deviation.shows_secrets_inside:
        assert bottle.exec(["printenv", "TOKEN"]).text == CANARY


def test_starts_stopped_sidecars_again_with_their_ca(worn_home: Place) -> None:
    before, ca = worn_home.ids(), worn_home.record.facts["ca_sha256"]
    worn_home.halt(before["guard"])
    worn_home.halt(before["interceptor"])
    assert worn_home.apply().action == "repaired"
    assert worn_home.ids() == before
    assert worn_home.record.facts["ca_sha256"] == ca
    assert worn_home.drift() == ""


def test_makes_lost_sidecars_again_and_renews_trust_without_touching_the_agent(worn_home: Place) -> None:
    before, ca = worn_home.ids(), worn_home.record.facts["ca_sha256"]
    worn_home.vanish(before["guard"])
    worn_home.vanish(before["interceptor"])
    worn_home.plant_ours("guard")  # one that never started is as good as lost
    assert worn_home.apply().action == "repaired"
    after = worn_home.ids()
    assert {role for role in after if after[role] != before[role]} == {"guard", "interceptor"}
    assert worn_home.record.facts["ca_sha256"] != ca
    assert worn_home.drift() == ""


def test_makes_sidecars_again_for_another_policy_and_names_the_key(worn_home: Place) -> None:
    before = worn_home.ids()
    worn_home.write(allow="example.net")
    assert worn_home.apply().action == "revised"
    after = worn_home.ids()
    assert {role for role in after if after[role] != before[role]} == {"guard", "interceptor"}
    revised = next(e for e in reversed(worn_home.events(kinds.DONE)) if e.trigger == "revise")
    assert "manifest changed: manifest.bottles.dev.egress.allow" in revised.cause


def test_asks_before_it_makes_an_agent_again(worn_home: Place) -> None:
    before = worn_home.raw()
    worn_home.write(greeting="good morning")
    with pytest.raises(DecisionNeededError, match="made again") as caught:
        worn_home.apply()
    assert caught.value.exit_code == 4
    assert worn_home.raw() == before
    assert worn_home.record.outcome == "ready"
    worn_home.people.yes = True
    assert worn_home.apply().action == "revised"
    worn_home.people.yes = False
    ids = {r.role: r.id for r in before}
    assert {role for role in ids if worn_home.ids()[role] != ids[role]} == {"agent"}


def test_asks_nobody_about_an_agent_that_never_ran(place: Place) -> None:
    with reaped(before=lambda name: name == "start agent"):
        place.apply()
    created = place.ids()["agent"]
    place.apply()
    assert place.people.asked == []
    assert place.ids()["agent"] != created


def test_removes_duplicates_of_ours(home: Place) -> None:
    before = home.ids()
    twin = home.plant_ours("net-outside", spec="another")
    home.effect("start_proxies")
    assert twin not in {r.id for r in home.raw()}
    assert home.ids() == before


def test_takes_the_name_back_from_an_older_launch(place: Place) -> None:
    place.plan_only()
    old = {place.plant_ours(role, launch="an-older-one", epoch=0) for role in ("net-outside", "guard")}
    place.effect("start_proxies")
    found = place.raw()
    assert not old & {r.id for r in found}
    assert sorted(r.role for r in found) == ["guard", "net-between", "net-inside", "net-outside"]
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


@pytest.mark.parametrize("role", ["guard", "interceptor"])
def test_starts_no_agent_whose_sidecar_is_dead(role: str, worn_home: Place) -> None:
    ids = worn_home.ids()
    worn_home.halt(ids["agent"])
    worn_home.halt(ids[role])
    with pytest.raises(BackendError):
        worn_home.effect("start_agent")
    assert {r.role: r.state for r in worn_home.raw() if r.role in CONTAINERS}["agent"] == "exited"
