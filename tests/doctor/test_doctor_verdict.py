from __future__ import annotations

import itertools

import pytest

from bottle_fsm.doctor.rows import Level, Row, failed, ok
from bottle_fsm.doctor.verdict import Auto, judge

FINE, ILL = [ok("a", "n", "there")], [ok("a", "m", "there"), failed("a", "n", "missing", "get it")]
DOCKER, NONE = Auto("docker", "an engine answers"), Auto(problem="nothing answers", hint="Start it")


@pytest.mark.parametrize(("engine", "local", "state", "refuses"), list(itertools.product([0, 1], repeat=4)))
def test_lets_a_backend_run_only_when_all_that_it_needs_is_there(
    engine: int, local: int, state: int, refuses: int
) -> None:
    choice = [FINE, ILL]
    found = judge(
        engine=choice[engine], local=choice[local], state=choice[state], auto=DOCKER, unfit="it refuses" * refuses
    )
    expected = (("docker",) if not engine else ()) + (("local",) if not local and not refuses else ())
    assert found.backends == (() if state else expected)
    docker, sandboxes, auto = found.rows
    assert (docker.level is Level.OK) == ("docker" in found.backends)
    assert (sandboxes.level is Level.OK) == ("local" in found.backends)
    for row in found.rows:
        assert bool(row.remedy) == (row.level is not Level.OK)
    assert (auto.level is Level.OK) == ("docker" in found.backends)
    assert (auto.level is Level.FAILED) == (not found.backends)


def _rows(found: tuple[Row, ...]) -> dict[str, Row]:
    return {row.name: row for row in found}


def test_points_at_the_row_that_failed() -> None:
    found = judge(engine=ILL, local=FINE, state=FINE, auto=NONE, unfit="")
    assert _rows(found.rows)["docker"].found == "cannot run: see a/n"


def test_takes_the_local_backends_own_word() -> None:
    found = judge(engine=FINE, local=FINE, state=FINE, auto=DOCKER, unfit="something new is missing")
    assert _rows(found.rows)["local"].found == "cannot run: something new is missing"


def test_says_what_auto_takes_and_why() -> None:
    found = judge(engine=FINE, local=FINE, state=FINE, auto=DOCKER, unfit="")
    assert found.auto == "docker"
    assert _rows(found.rows)["auto"].found == "would take docker: an engine answers"


def test_names_the_backend_that_can_run_when_auto_takes_another() -> None:
    found = judge(engine=ILL, local=FINE, state=FINE, auto=DOCKER, unfit="")
    auto = _rows(found.rows)["auto"]
    assert (auto.level, auto.remedy) == (
        Level.WARNING,
        "Name the one that can run: `bottle-fsm apply --backend local`",
    )


def test_repeats_why_auto_takes_none() -> None:
    auto = _rows(judge(engine=ILL, local=ILL, state=FINE, auto=NONE, unfit="").rows)["auto"]
    assert (auto.level, auto.found, auto.remedy) == (Level.FAILED, "would take none: nothing answers", "Start it")
