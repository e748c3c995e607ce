"""Going up: what is there is adopted, and a launcher that dies anywhere leaves nothing that cannot be gone on with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bottle_fsm import naming
from bottle_fsm.model import Event
from bottle_fsm.store import kinds
from contract.contract_place import ROLES, Place
from contract.contract_steps import Chooser, at_the, reaped

STARTS = ("start_proxies", "start_mitm", "start_agent")


@pytest.mark.parametrize("trigger", STARTS)
def test_makes_nothing_again_when_an_effect_runs_twice(trigger: str, home: Place) -> None:
    before, since = home.raw(), home.record.sequence
    home.effect(trigger)
    assert home.raw() == before
    again = [step["step"] for step in home.steps_of(trigger, since)]
    assert [name for name in again if name.startswith(("create", "remove", "start", "adopt"))] == []


def test_commits_an_intent_before_each_object_appears(place: Place) -> None:
    seen: dict[int, set[str]] = {}

    def look(event: Event) -> None:
        if event.kind in {kinds.STEP_INTENT, kinds.STEP_DONE}:
            seen[event.sequence] = {r.name for r in place.raw()}

    place.people.on_event = look
    with reaped(begun=lambda name: name == "start agent"):  # all objects are made by then
        place.apply()
    place.people.on_event = lambda event: None
    steps = [e for e in place.people.events if e.kind == kinds.STEP_INTENT and e.evidence["step"].startswith("create")]
    assert sorted(e.evidence["role"] for e in steps) == sorted(ROLES)
    for event in steps:
        name = naming.object_name(event.evidence["role"], place.record.slug)
        done = next(e for e in place.people.events if e.sequence > event.sequence and e.kind == kinds.STEP_DONE)
        assert name not in seen[event.sequence]
        assert name in seen[done.sequence]
        assert name in {r["name"] for r in done.resources}
    before = {r.name for r in place.raw()}
    unaccounted = before - {place.name_of(e.evidence["role"]) for e in steps}
    assert unaccounted == set()


def test_labels_every_object_with_owner_launch_and_role(home: Place) -> None:
    found = {r.role: dict(r.labels) for r in home.raw()}
    assert sorted(found) == sorted(ROLES)
    for role, labels in found.items():
        assert labels[naming.LABEL_ROOT] == home.runtime.root.root_id
        assert labels[naming.LABEL_BOTTLE] == home.bottle_name
        assert labels[naming.LABEL_LAUNCH] == home.record.launch
        assert labels[naming.LABEL_ROLE] == role
        assert labels[naming.LABEL_SPEC]
        assert labels[naming.LABEL_STEP]
        assert 0 < int(labels[naming.LABEL_EPOCH]) <= home.record.epoch


def test_goes_on_after_a_death_at_any_boundary(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.deviation.every_kth:
        _die_once_a_launch(place, monkeypatch)
    else:
        _die_often_in_one_launch(place)


def _die_once_a_launch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    positions: tuple[Callable[[Chooser], dict[str, Chooser]], ...] = (
        lambda chosen: {"before": chosen},
        lambda chosen: {"begun": chosen},
        lambda chosen: {"acted": chosen},
    )
    kills = 0
    monkeypatch.setattr(type(place.backend()), "settle", 0.01)
    for position in positions:
        number = 1
        while _dies(place, position(at_the(number))):
            kills += 1
            _finish(place, _finished(place))
            place.people.yes = True
            place.destroy()
            place.people.yes = False
            assert place.raw() == []
            number += place.deviation.every_kth
        place.destroy()
    assert kills >= 3 * (2 * len(ROLES))


def _die_often_in_one_launch(place: Place) -> None:
    """Die once at each third sub-step: before it, when it was begun, when it was done, in turn."""
    turn: dict[str, int] = {}

    def chosen(phase: int) -> Chooser:
        def chooser(name: str) -> bool:
            number = turn.setdefault(name, len(turn))
            if number < 0 or number % 3 != phase or number % 9 not in {0, 4, 8}:
                return False
            turn[name] = -1 - number
            return True

        return chooser

    kills = 0
    finished: dict[str, str] = {}
    while _dies(place, {"before": chosen(0), "begun": chosen(1), "acted": chosen(2)}):
        kills += 1
        for role, object_id in finished.items():
            assert place.ids()[role] == object_id
        finished = _finished(place)
        assert kills < 30
    _finish(place, finished)
    assert kills >= 6


def _dies(place: Place, choosers: dict[str, Chooser]) -> bool:
    with reaped(**choosers) as deaths:
        place.apply()
    return bool(deaths)


def _finished(place: Place) -> dict[str, str]:
    """Return what the journal says was finished: networks, and containers that were started."""
    return {r["role"]: r["id"] for r in place.record.resources if r["state"] != "created"}


def _finish(place: Place, finished: dict[str, str]) -> None:
    """Go on to the end: everything is there once, and what was finished was adopted."""
    place.apply()
    assert place.record.state == "provisioned"
    found = place.ids()
    assert sorted(found) == sorted(ROLES)
    assert {r.state for r in place.raw()} == {"running", "present"}
    assert {role: found[role] for role in finished} == finished
    assert place.drift() == ""
    assert sorted(r["id"] for r in place.record.resources) == sorted(found.values())
