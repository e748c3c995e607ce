"""Every point of every scenario, killed for real, then followed up: nothing is lost, doubled, or left behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bottle_fsm import failpoints
from crash_cases import SCENARIOS
from crash_place import unmeasured

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "bottle_fsm"


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_ends_as_if_nothing_had_happened(scenario: str) -> None:
    command = [sys.executable, str(HERE / "crash_sweep.py"), "--scenario", scenario, "--quick"]
    done = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=False, timeout=550)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [case for case in cases if case["wrong"]]
    assert wrong == [], done.stderr
    assert done.returncode == 0, done.stderr
    kills = {case["number"] for case in cases if case["action"] == "kill"}
    assert kills == set(range(1, max(kills) + 1))
    assert len(kills) > 25


@pytest.mark.parametrize("scenario", ["launch", "repair"])
def test_survives_a_second_kill_during_the_follow_up(scenario: str) -> None:
    command = [sys.executable, str(HERE / "crash_sweep.py"), "--scenario", scenario, "--only-pairs", "--pairs", "1"]
    done = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=False, timeout=550)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case for case in cases if case["wrong"]] == [], done.stderr
    assert len([case for case in cases if case["outcome"] == "as uninterrupted"]) > 10


def test_passes_every_declared_point_somewhere_in_the_code() -> None:
    called = set()
    for path in PACKAGE.rglob("*.py"):
        called |= set(re.findall(r"\bhit\(\"([a-z.]+)\"", path.read_text()))
    assert called == failpoints.POINTS
