"""The record of decisions over every death of a launcher: each line once, in order, and no residue of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bottle_fsm.naming import LABEL_LAUNCH, LABEL_ROLE
from crash_cases import ENDED_WELL, Place
from crash_judge import judge
from traffic.traffic_bench import decision, startup

KILLED = -9
SIDECARS = ("interceptor", "guard")


def decide(place: Place, first: int, count: int) -> None:
    """Let both sidecars that are there write lines."""
    for number, found in enumerate(o for o in place.world.objects() if o.labels[LABEL_ROLE] in SIDECARS):
        role = found.labels[LABEL_ROLE]
        begin = [] if place.world.log(found.labels[LABEL_LAUNCH], role) else [startup(first)]
        lines = [*begin, *(decision(2 * n + number) for n in range(first, first + count))]
        place.world.say(found.id, "".join(f"{line.decode()}\n" for line in lines))


def written(place: Place) -> dict[str, list[int]]:
    """Return what stands in the record, by role."""
    files = list(Path(place.state).rglob("*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return {role: [x.get("bytes", x["event"]) for x in lines if x["source"] == role] for role in SIDECARS}


def said(place: Place) -> dict[str, list[int]]:
    """Return what the sidecars that are there wrote."""
    found = {}
    for item in place.world.objects():
        role = item.labels[LABEL_ROLE]
        if role in SIDECARS:
            text = place.world.log(item.labels[LABEL_LAUNCH], role)
            found[role] = [json.loads(line)["bytes"] for line in text.splitlines()[1:]]
    return found


def _ready(place: Place) -> None:
    place.act("apply")
    decide(place, 0, 3)


def _collected(place: Place) -> None:
    _ready(place)
    place.act("apply")
    decide(place, 10, 2)


@pytest.mark.parametrize(("prepare", "then"), [(_ready, "destroy"), (_collected, "resume")])
def test_keeps_each_decision_once_whenever_a_teardown_is_killed(
    place: Place, prepare: Callable[[Place], None], then: str
) -> None:
    number, wrong = 0, {}
    wanted: dict[str, list[int]] = {}
    code = KILLED
    while code == KILLED:
        number += 1
        place.begin()
        prepare(place)
        wanted = said(place)
        code = place.forked("destroy", f"#{number}=kill")
        assert place.forked(then) == ENDED_WELL
        found = written(place)
        problems = judge(place, then, {}) + ([f"{found} for {wanted}"] if found != wanted else [])
        if problems:
            wrong[number] = problems
    assert wrong == {}
    assert number > 20
    assert [len(lines) for lines in wanted.values()] == [5 if prepare is _collected else 3] * 2


def test_keeps_each_decision_once_whenever_a_repair_is_killed(place: Place) -> None:
    """The interceptor is made again: its guard changed its policy, as far as the record is concerned."""
    number, wrong, code = 0, {}, KILLED
    while code == KILLED:
        number += 1
        place.begin()
        _ready(place)
        wanted = said(place)
        manifest = place.folder / "manifest.yaml"
        manifest.write_text(manifest.read_text().replace("example.org]", "example.com]"))
        code = place.forked("apply", f"#{number}=kill")
        assert place.forked("apply") == ENDED_WELL
        decide(place, 50, 2)
        place.act("apply")
        found = written(place)
        later = {role: [n for n in said(place)[role] if n >= 100] for role in SIDECARS}
        if found != {role: wanted[role] + later[role] for role in SIDECARS}:
            wrong[number] = found
    assert wrong == {}
    assert number > 20
