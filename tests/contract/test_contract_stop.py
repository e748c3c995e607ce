"""Going down: in reverse, as often as one likes, and never said to be done before a look shows it."""

from __future__ import annotations

import pytest

from bottle_fsm.errors import TeardownIncompleteError
from bottle_fsm.store import kinds
from contract.contract_place import Place
from contract.contract_steps import at_the, reaped


def test_takes_away_in_reverse_and_says_so_only_when_nothing_is_left(survivor: tuple[Place, list[str]]) -> None:
    place, _ = survivor
    assert place.record.state == "provisioned"
    place.plant_ours(place.outermost, launch="an-older-one", epoch=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(place.backend()), "stop_agent", lambda self, launch, steps: None)
        with pytest.raises(
            TeardownIncompleteError, match=f"left over: .*(container|process) {place.name_of('agent')}"
        ) as caught:
            place.destroy()
    assert caught.value.exit_code == 6
    assert (place.record.state, place.record.outcome) == ("provisioned", "leftover")
    assert "agent" in {r.role for r in place.raw()}
    assert "interceptor" not in {r.role for r in place.raw()}
    assert place.destroy().action == "torn_down"
    assert place.raw() == []
    assert (place.record.state, place.record.outcome) == ("torn_down", "torn_down")
    undone = [e.trigger for e in place.events(kinds.UNDO_INTENT) if e.launch == place.record.launch]
    assert undone[:3] == ["start_agent", "start_mitm", "start_proxies"]
    first, second = place.events(kinds.OBSERVED)[-1].evidence["looks"]
    assert second - first >= place.backend().settle


def test_stops_what_is_stopped_already_without_complaint(place: Place) -> None:
    place.plan_only()
    place.effect("start_proxies")
    assert sorted(place.ids()) == sorted(set(place.roles) - {"interceptor", "agent"})
    for trigger in ("start_agent", "start_mitm", "start_proxies", "start_agent", "start_mitm", "start_proxies"):
        place.undo(trigger)
    assert place.raw() == []
    assert place.record.resources == ()
    skipped = {e.evidence["step"] for e in place.events(kinds.STEP_SKIPPED)}
    assert {"remove agent", "remove interceptor", "remove guard"} <= skipped


def test_goes_on_with_a_teardown_that_died(place: Place) -> None:
    place.plan_only()
    place.effect("start_proxies")
    deaths = 0
    for _ in range(3):
        with reaped(acted=at_the(1)) as died:
            place.destroy()
        deaths += len(died)
        assert place.record.state != "torn_down"
    assert deaths == 3
    place.resume()
    assert place.record.state == "torn_down"
    assert place.raw() == []


def test_removes_what_arrives_after_the_teardown(place: Place) -> None:
    place.plan_only()
    launch = place.record.launch
    place.destroy()
    assert place.record.state == "torn_down"
    place.plant_ours("net-inside", launch=launch)
    place.plant_ours("guard", launch=launch)
    assert place.destroy().action == "nothing"
    assert place.raw() == []


def test_leaves_a_stranger_on_our_name_alone(place: Place) -> None:
    place.plan_only()
    place.plant("container", place.name_of("agent"), {"owner": "somebody"})
    before = place.raw()
    assert place.destroy().action == "torn_down"
    assert place.raw() == before
