"""The launcher dies at every boundary between sub-steps, and each time the next one goes on: judged on the way.

Where a launch takes a fraction of a second each death has a launch of its own; where it takes longer, one launch is
killed once at each of a sample of its sub-steps.
"""

from __future__ import annotations

import pytest

from contract.contract_place import Place
from contract.contract_steps import Chooser, at_the, reaped


def die_everywhere(place: Place) -> list[str]:
    """Let the launcher die, leave a provisioned bottle, and return the names of the sub-steps at which it died."""
    if not place.deviation.every_kth:
        return _die_often_in_one_launch(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(place.backend()), "settle", 0.01)  # dozens of launches: they need not wait as people do
        return _die_once_a_launch(place)


def _die_once_a_launch(place: Place) -> list[str]:
    names: list[str] = []
    for position in ("before", "begun", "acted"):
        number = 1
        while died := _dies(place, **{position: at_the(number)}):
            names += died
            _finish(place, _finished(place))
            place.destroy()
            assert place.raw() == []
            number += place.deviation.every_kth
        place.destroy()
    assert len(names) > 3 * 2 * len(place.roles)
    place.apply()
    return names


def _die_often_in_one_launch(place: Place) -> list[str]:
    """Die at each third sub-step, at the guard's making and at the agent's start; each time in another phase."""
    turns: dict[str, int] = {}
    names: list[str] = []

    def chosen(phase: int) -> Chooser:
        def chooser(name: str) -> bool:
            turn = turns.setdefault(name, len(turns))
            sampled = turn % 3 == 1 or name in {"create guard", "start agent"}
            return name not in names and sampled and turn // 3 % 3 == phase

        return chooser

    finished: dict[str, str] = {}
    while died := _dies(place, before=chosen(0), begun=chosen(1), acted=chosen(2)):
        names += died
        found = {r.role: r.id for r in place.raw()}
        assert {role: found.get(role) for role in finished} == finished
        finished = _finished(place)
    _finish(place, finished)
    assert len(names) > len(place.roles)
    return names


def _dies(place: Place, **choosers: Chooser) -> list[str]:
    with reaped(**choosers) as deaths:
        place.apply()
    return deaths


def _finished(place: Place) -> dict[str, str]:
    """Return what the journal says was finished: networks, and containers that were started."""
    return {r["role"]: r["id"] for r in place.record.resources if r["state"] != "created"}


def _finish(place: Place, finished: dict[str, str]) -> None:
    """Go on to the end: everything is there once, and what was finished was adopted."""
    place.apply()
    assert place.record.state == "provisioned"
    found = place.ids()
    assert sorted(found) == sorted(place.roles)
    assert {r.state for r in place.raw()} == {"running", "present"}
    assert {role: found[role] for role in finished} == finished
    assert place.drift() == ""
    assert sorted(r["id"] for r in place.record.resources) == sorted(found.values())
