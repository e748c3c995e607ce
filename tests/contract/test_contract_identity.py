"""Another engine, or a world that is newer than the journal: a person decides, and nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottle_fsm.errors import DecisionNeededError
from contract.contract_place import Place

VERBS: dict[str, Callable[[Place], Any]] = {"apply": Place.apply, "resume": Place.resume, "destroy": Place.destroy}


@pytest.mark.parametrize("verb", VERBS)
def test_refuses_another_engine_at_the_recorded_endpoint(verb: str, home: Place) -> None:
    before = home.raw()
    with home.other_engine(), pytest.raises(DecisionNeededError, match=r"another (engine|place)") as caught:
        VERBS[verb](home)
    assert caught.value.exit_code == 4
    assert home.raw() == before
    assert home.record.outcome == "ready"


@pytest.mark.parametrize("verb", VERBS)
def test_refuses_a_world_that_a_newer_owner_made(verb: str, place: Place) -> None:
    place.plan_only()
    place.plant_ours(place.outermost, epoch=9999)
    before = place.raw()
    with pytest.raises(DecisionNeededError, match="epoch 9999") as caught:
        VERBS[verb](place)
    assert caught.value.exit_code == 4
    assert place.raw() == before
    assert place.record.state == "planned"


def test_is_ready_again_with_the_recorded_engine(home: Place) -> None:
    assert home.apply().action == "unchanged"
    assert home.record.outcome == "ready"
