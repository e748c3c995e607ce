"""It goes on from every committed prefix of the journal, although the world is as it was at the end.

What is decided for a labelled object without an intent, by what the journal still knows of its maker:

- its launch and its epoch are known (they declared the launch or began a sub-step): the object is **adopted** when its
  spec fits, replaced when it does not, and removed by `destroy`;
- its launch is unknown, or its epoch began nothing that is recorded: the journal is older than the world. Exit 4, and
  **nothing is touched**, however often it is tried again, even under `--yes`;
- no launch of the bottle is recorded at all: `resume` and `destroy` have nothing to do and touch nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Event
from bottle_fsm.naming import LABEL_EPOCH, LABEL_LAUNCH
from bottle_fsm.runner.verbs import destroy
from bottle_fsm.store import kinds
from bottle_fsm.store.record import fold
from crash_backup import committed, cut
from crash_cases import BOTTLE, ENDED_WELL, SCENARIOS, Place
from crash_judge import judge

VERBS = ("resume", "destroy", "apply")
_COVERED = ("apply", "teardown")
"""Of a cut teardown `apply` does what `resume` does, and then what the launch's prefixes show."""
Objects = list[tuple[str, str, tuple[tuple[str, str], ...]]]


def whole(place: Place, name: str) -> list[Event]:
    """Run a scenario to its end, undisturbed."""
    place.begin()
    SCENARIOS[name].prepare(place)
    place.act(SCENARIOS[name].verb)
    events = committed(place)
    shutil.copytree(place.state, place.folder / "kept")
    return events


def restore(place: Place, length: int) -> None:
    shutil.rmtree(place.state)
    shutil.copytree(place.folder / "kept", place.state)
    cut(place, length)


def objects(place: Place) -> Objects:
    return sorted((o.id, o.state, tuple(sorted(o.files.items()))) for o in place.world.objects())


def unknown_makers(place: Place, prefix: list[Event]) -> bool:
    """Tell whether the world has objects whose launch or epoch began nothing in the prefix."""
    known = {(e.launch, str(e.epoch)) for e in prefix if e.kind in {kinds.DECLARED, kinds.STEP_INTENT}}
    return any((o.labels[LABEL_LAUNCH], o.labels[LABEL_EPOCH]) not in known for o in place.world.objects())


def refused(act: Callable[[], object]) -> list[str]:
    try:
        act()
    except DecisionNeededError as error:
        return [] if "was made by a later" in error.problem else [f"another decision: {error}"]
    return ["was not refused"]


def go_on(place: Place, verb: str, prefix: list[Event]) -> list[str]:
    """Run a verb after a cut; return what is wrong with how it ended."""
    before = objects(place)
    record = fold(prefix).get(BOTTLE)
    if record is None or not record.launch:
        if verb == "apply" and before:
            wrong = refused(lambda: place.act(verb)) + refused(lambda: place.act(verb))
            return wrong + (["something was touched"] if objects(place) != before else [])
        place.act(verb)
        return ["something was touched"] if verb != "apply" and objects(place) != before else []
    if unknown_makers(place, prefix):
        wrong = [w for _ in range(3) for w in refused(lambda: place.act(verb))]
        return wrong + (["something was touched"] if objects(place) != before else [])
    there = {o.labels["bottle-fsm.role"]: o.id for o in place.world.objects()}
    place.act(verb)
    wrong = judge(place, verb, {} if record.down else there)
    after = objects(place)
    place.act("destroy" if verb == "destroy" else "resume")
    return wrong + (["a second run changed something"] if objects(place) != after else [])


@pytest.mark.parametrize(
    ("verb", "scenario"), [(v, s) for v in VERBS for s in ("launch", "teardown", "repair") if (v, s) != _COVERED]
)
def test_goes_on_from_every_committed_prefix(verb: str, scenario: str, place: Place) -> None:
    events = whole(place, scenario)
    wrong, refusals = {}, 0
    for length in range(len(events) + 1):
        restore(place, length)
        refusals += unknown_makers(place, events[:length])
        found = go_on(place, verb, events[:length])
        if found:
            wrong[length] = found
    assert wrong == {}
    assert (refusals > 0) == (scenario != "teardown")


def test_destroys_what_a_launch_without_a_recorded_plan_made(place: Place) -> None:
    """The restored journal ends after `declared`: nothing says that an effect was begun, the world shows it."""
    events = whole(place, "launch")
    restore(place, next(e.sequence for e in events if e.kind == kinds.DECLARED))
    runtime = place.runtime()
    try:
        assert destroy(runtime, BOTTLE).action == "torn_down"
        looks = [e for e in runtime.journal.events(bottle=BOTTLE, kind=kinds.OBSERVED) if "looks" in e.evidence]
    finally:
        runtime.journal.close()
    assert place.world.objects() == []
    assert len(looks) == 1


def test_never_claims_the_agent_of_an_unknown_launch(place: Place) -> None:
    """The journal lost the launch that the agent belongs to; its work stays, and destroying the new one is refused."""
    events = whole(place, "launch")
    restore(place, next(e.sequence for e in events if e.kind == kinds.DECLARED) - 1)
    before = objects(place)
    assert refused(lambda: place.act("apply")) == []
    assert refused(lambda: place.act("destroy")) == []
    assert objects(place) == before
    for found in sorted(place.world.objects(), key=lambda o: o.kind):
        place.world.remove(found.id)
    assert place.forked("apply") == ENDED_WELL
    assert judge(place, "apply", {}) == []
