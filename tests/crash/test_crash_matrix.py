"""The published matrix says what its raw results say, and they say what was promised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm import failpoints
from crash_table import page

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "crash-results"
FILES = sorted(RESULTS.glob("*.jsonl"))


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    head, *cases = [json.loads(line) for line in path.read_text().splitlines()]
    return head, cases


def test_is_made_from_the_committed_results() -> None:
    assert (DOCS / "crash-matrix.md").read_text() == page(RESULTS)


@pytest.mark.parametrize(("where", "least"), [("fake", 1000), ("engine", 100), ("local", 100)])
def test_holds_as_many_randomised_kills_as_promised_and_none_went_wrong(where: str, least: int) -> None:
    found = [read(path) for path in FILES]
    cases = [case for head, cases in found if (head["where"], head["random"]) == (where, True) for case in cases]
    assert len(cases) >= least
    assert [case for case in cases if case["wrong"]] == []


def test_says_of_every_file_how_it_came_about() -> None:
    assert len(FILES) >= 3
    for path in FILES:
        head, cases = read(path)
        assert {"commit", "seed", "machine", "command", "kind"} <= head.keys()
        assert cases


def test_names_every_kill_point() -> None:
    named = set(re.findall(r"\| `([a-z.]+)", page(RESULTS)))
    assert named >= failpoints.POINTS


def test_counts_what_went_wrong(tmp_path: Path) -> None:
    case = {"scenario": "launch", "point": "done.after#1", "then": "resume", "second": 0, "seconds": 1.0}
    cases = [
        {**case, "wrong": []},
        {**case, "wrong": ["torn down, but 2 objects are left"]},
        {**case, "wrong": ["stuck: failed in planned"]},
    ]
    head = {"where": "fake", "kind": "k", "random": True, "commit": "c", "seed": 1, "machine": "m", "command": "x"}
    (tmp_path / "1.jsonl").write_text("\n".join(json.dumps(line) for line in (head, *cases)))
    assert "3 randomised kills, 1 with residue, 1 stuck, 2 wrong." in page(tmp_path)
    assert "| launch | `done.after` | 3 | resume | 1 | 1 | 2 | 1.00 s |" in page(tmp_path)
