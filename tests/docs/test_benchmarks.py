"""The published figures are those of the raw results, and keep within their limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from figures import RESULTS
from page import PAGE, page


def result(name: str) -> dict[str, Any]:
    found = json.loads((RESULTS / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def test_is_made_from_the_committed_results() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize(
    ("name", "figure", "limit"),
    [("durable-step", "ratio", 1.0), ("launch-overhead", "share", 0.05)],
)
def test_keeps_within_the_promised_limit(name: str, figure: str, limit: float) -> None:
    found = result(name)
    assert found["limit"] == limit
    assert found[figure] <= limit


def test_resumes_in_the_time_of_the_remaining_steps() -> None:
    found = result("resume-time")
    assert len(found["rows"]) >= 6
    for row in found["rows"]:
        assert row["allowed"] == pytest.approx(row["remaining"] + 0.1 * found["full launch s"], abs=0.01)
        assert row["rest"] <= row["allowed"], row


def test_grows_linearly_with_the_number_of_bottles() -> None:
    found = result("many-bottles")
    for verb, most in (("status", "1000"), ("resume --all", "100")):
        assert most in found[verb]["seconds"]
        assert found[verb]["growth"] <= found["limit"], verb
