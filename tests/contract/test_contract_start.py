"""Going up: what is there is adopted, and a launcher that dies anywhere leaves nothing that cannot be gone on with."""

from __future__ import annotations

import pytest

from bottle_fsm import naming
from bottle_fsm.store import kinds
from contract.contract_place import Place

STARTS = ("start_proxies", "start_mitm", "start_agent")


@pytest.mark.parametrize("trigger", STARTS)
def test_makes_nothing_again_when_an_effect_runs_twice(trigger: str, home: Place) -> None:
    before, since = home.raw(), home.record.sequence
    home.effect(trigger)
    assert home.raw() == before
    again = [step["step"] for step in home.steps_of(trigger, since)]
    assert [name for name in again if name.startswith(("create", "remove", "start", "adopt"))] == []


def test_commits_an_intent_before_each_object_appears(home: Place) -> None:
    launched = [e for e in home.people.events if e.sequence in home.watched]
    steps = [e for e in launched if e.kind == kinds.STEP_INTENT and e.evidence["step"].startswith("create")]
    assert sorted(e.evidence["role"] for e in steps) == sorted(home.roles)
    for event in steps:
        name = home.name_of(event.evidence["role"])
        done = next(e for e in launched if e.sequence > event.sequence and e.kind == kinds.STEP_DONE)
        assert name not in home.watched[event.sequence]
        assert name in home.watched[done.sequence]
        assert name in {r["name"] for r in done.resources}
    appeared = set().union(*home.watched.values())
    assert appeared == {home.name_of(role) for role in home.roles}


def test_labels_every_object_with_owner_launch_and_role(home: Place) -> None:
    found = {r.role: dict(r.labels) for r in home.raw()}
    assert sorted(found) == sorted(home.roles)
    for role, labels in found.items():
        assert labels[naming.LABEL_ROOT] == home.runtime.root.root_id
        assert labels[naming.LABEL_BOTTLE] == home.bottle_name
        assert labels[naming.LABEL_LAUNCH] == home.record.launch
        assert labels[naming.LABEL_ROLE] == role
        assert labels[naming.LABEL_SPEC]
        assert labels[naming.LABEL_STEP]
        assert 0 < int(labels[naming.LABEL_EPOCH]) <= home.record.epoch


def test_goes_on_after_a_death_at_any_boundary(survivor: tuple[Place, list[str]]) -> None:
    place, deaths = survivor
    assert {"start agent", "create guard"} <= set(deaths)
    assert place.record.outcome in {"ready", "torn_down"}
    assert place.people.asked == []  # nobody was asked about an agent that never ran
