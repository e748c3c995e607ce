"""A launcher with a fault is found out: each mutation turns the sweep red, and without one it is green.

Every mutant is a small edit of the shipped code at run time, in the processes that the sweep forks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import crash_cases
from bottle_fsm.backend.fake import hands as hands_module
from bottle_fsm.backend.fake import look as look_module
from bottle_fsm.backend.fake.hands import Hands
from bottle_fsm.backend.fake.world import FakeWorld, Fault
from bottle_fsm.errors import BackendError, DecisionNeededError
from bottle_fsm.failpoints import hit
from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.plan import diff as diff_module
from bottle_fsm.runner import compensate as compensate_module
from bottle_fsm.runner import drive as drive_module
from bottle_fsm.runner.session import Session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.store import kinds
from crash_backup import committed, cut
from crash_cases import SCENARIOS, Place
from crash_judge import judge
from crash_sweep import Case, points_of, run_case

Check = Callable[[Place], list[str]]
Mutate = Callable[[pytest.MonkeyPatch], None]


# -- what is run -----------------------------------------------------------------------------------------------------


def swept(scenario: str, *, then: str, only: tuple[str, ...] = ()) -> Check:
    """Kill a scenario at its points and judge each case."""

    def check(place: Place) -> list[str]:
        case = SCENARIOS[scenario]
        points = points_of(case, place)
        numbers = [n for n, point in enumerate(points, 1) if not only or point.startswith(only)]
        done = [run_case(case, place, Case(scenario, points[n - 1], n, "kill", then)) for n in numbers]
        return [f"{c.point}: {w}" for c in done for w in c.wrong]

    return check


def _foreign_spec(place: Place) -> list[str]:
    """A container of our name that was made from other inputs must not be taken for ours."""
    place.begin()
    place.act("apply")
    guard = next(o for o in place.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    place.world.remove(guard.id)
    labels = {**guard.labels, "bottle-fsm.spec": "made from something else"}
    made = place.world.create("container", guard.name, labels, networks=guard.networks)
    place.world.start(made, healthy=True)
    place.act("resume")
    return ["another guard was adopted by its name"] if made in {o.id for o in place.world.objects()} else []


def _refused_removal(place: Place) -> list[str]:
    """The engine refuses to remove the guard: a teardown that goes on regardless must not call itself finished."""
    place.begin()
    place.act("apply")
    place.world.inject(Fault("remove", "refuse", role="guard", times=1))
    place.forked("destroy")
    errors = [e.kind for e in committed(place) if e.kind == kinds.UNDO_FAILED]
    return [] if errors else ["nobody heard of the removal that was refused"]


def _late_network(place: Place) -> list[str]:
    """The engine makes a network after its launcher died; networks may share a name, so a second one would be made."""
    longer, wait = 0.3, crash_cases.SETTLE
    crash_cases.SETTLE = longer  # type: ignore[misc]
    try:
        place.begin()
        place.runtime().journal.close()
        place.world.inject(Fault("create", "late", role="net-between", times=1, after=longer / 2))
        place.forked("apply", "failed.after=kill")
        place.forked("resume")
        time.sleep(longer)
        return judge(place, "resume", {})
    finally:
        crash_cases.SETTLE = wait  # type: ignore[misc]


def _restored(place: Place) -> list[str]:
    """A journal older than the world must not act."""
    place.begin()
    SCENARIOS["repair"].prepare(place)
    before = len(committed(place))
    place.act("apply")
    cut(place, before)
    ids = sorted(o.id for o in place.world.objects())
    try:
        place.act("destroy")
    except DecisionNeededError:
        return []
    return ["acted for an older journal"] if sorted(o.id for o in place.world.objects()) != ids else []


# -- the mutants -----------------------------------------------------------------------------------------------------


def _record_after_effect(patch: pytest.MonkeyPatch) -> None:
    """The intent is written with the outcome."""

    @contextmanager
    def act(self: RunnerSteps, name: str, *, cause: str, role: str = "") -> Iterator[Any]:
        resources: list[Resource] = []
        facts: dict[str, str] = {}

        class Step:
            def made(self, resource: Resource) -> None:
                resources.append(resource)

            def fact(self, key: str, value: str) -> None:
                facts[key] = value

            def evidence(self, key: str, value: Any) -> None:
                """Forget it."""

        hit("step.intent.before", name)
        yield Step()
        hit("step.acted", name)
        self._session.facts.update(facts)
        evidence = {"step": name, "role": role}
        self._commit(kinds.STEP_INTENT, cause=cause, evidence=evidence)
        hit("step.intent.after", name)
        found = {**evidence, "facts": facts}
        self._commit(kinds.STEP_DONE, cause=cause, evidence=found, resources=tuple(resources))
        hit("step.done.after", name)

    patch.setattr(RunnerSteps, "act", act)


def _adopt_by_name(patch: pytest.MonkeyPatch) -> None:
    """Whatever has the wanted name is ours, from whichever launch and inputs."""
    real = diff_module._for_found

    def by_name(target: Any, found: Resource, launch: Launch, previous: Any) -> Any:
        return real(
            target, dataclasses.replace(found, launch=launch.launch, spec=target.spec(launch.facts)), launch, previous
        )

    patch.setattr(diff_module, "_for_found", by_name)


def _swallow_teardown_errors(patch: pytest.MonkeyPatch) -> None:
    real = Hands.remove

    def swallow(self: Hands, found: Resource, *, cause: str) -> None:
        try:
            real(self, found, cause=cause)
        except BackendError:
            return

    patch.setattr(Hands, "remove", swallow)


def _ignore_epochs(patch: pytest.MonkeyPatch) -> None:
    """Neither runner nor backend compares an object's epoch with the journal's."""
    real = look_module.look

    def look(world: FakeWorld, launch: Launch) -> Observed:
        return real(world, dataclasses.replace(launch, epoch=10**9))

    def observe(self: Session) -> Observed:
        return self.backend.observe(self.launch())

    patch.setattr(hands_module, "look", look)
    patch.setattr("bottle_fsm.backend.fake.backend.look", look)
    patch.setattr(Session, "observe", observe)


def _skip_settling(patch: pytest.MonkeyPatch) -> None:
    """What a dead process left open is looked at once, at once."""
    patch.setattr(drive_module, "settle", lambda *_: None)


def _claim_without_looking(patch: pytest.MonkeyPatch) -> None:
    """`torn_down` is believed because every compensation was called."""
    patch.setattr(compensate_module, "_prove_empty", lambda *_: None)


_POINTS = ("step.acted", "step.intent")
TRIES = 5
MUTANTS: dict[str, tuple[Mutate, Check]] = {
    "the record is written after the effect": (_record_after_effect, swept("launch", then="resume", only=_POINTS)),
    "adoption is by name only": (_adopt_by_name, _foreign_spec),
    "a teardown error is swallowed": (_swallow_teardown_errors, _refused_removal),
    "the epoch is not compared": (_ignore_epochs, _restored),
    "the settle look is skipped": (_skip_settling, _late_network),
    "torn down is claimed without a look": (_claim_without_looking, swept("teardown", then="destroy", only=("done",))),
}


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_turns_red_when(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, check = MUTANTS[name]
    assert check(place) == []
    mutate(monkeypatch)
    # one mutant is seen within fractions of a second only, which a busy machine may miss
    assert any(check(place) for _ in range(TRIES))
