"""Names fit the engine, differ where they must, and labels come back as they went."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm import naming

ROLES = ["agent", "interceptor", "guard", "net-inside", "net-between", "net-outside"]


@given(st.text(), st.text(min_size=1), st.text(min_size=1))
def test_makes_names_that_every_engine_takes(root: str, project: str, agent: str) -> None:
    slug = naming.slug(root, project, agent)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    for role in ROLES:
        name = naming.object_name(role, slug)
        assert len(name) <= 63
        assert name.startswith("claude-bottle-")
    assert len(naming.object_name("volume", slug, "x" * 80)) <= 63


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("r", "p", "agent"), ("s", "p", "agent")),
        (("r", "p", "agent"), ("r", "q", "agent")),
        (("r", "p", "Agent"), ("r", "p", "agent")),
        (("r", "p", "a" * 40), ("r", "p", "a" * 41)),
        (("r", "ab", "c"), ("r", "a", "bc")),
    ],
)
def test_tells_bottles_apart(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert naming.slug(*one) != naming.slug(*other)


def test_names_each_role_as_documented() -> None:
    names = {role: naming.object_name(role, "s") for role in ROLES}
    assert names == {
        "agent": "claude-bottle-s",
        "interceptor": "claude-bottle-mitm-s",
        "guard": "claude-bottle-pipelock-s",
        "net-inside": "claude-bottle-net-s",
        "net-between": "claude-bottle-between-s",
        "net-outside": "claude-bottle-egress-s",
    }
    assert naming.bottle_name("demo", "one") == "demo/one"


def test_reads_labels_back() -> None:
    labels = naming.Labels("r", "demo/one", "L", "agent", "agent_up", "abc", 7)
    assert naming.Labels.of(labels.as_dict()) == labels
    assert all(key.startswith("bottle-fsm.") for key in labels.as_dict())


@pytest.mark.parametrize("damage", [{"bottle-fsm.epoch": "x"}, {"bottle-fsm.root": None}])
def test_counts_incomplete_labels_as_not_ours(damage: dict[str, str | None]) -> None:
    labels: dict[str, str | None] = {**naming.Labels("r", "b", "L", "agent", "s", "x", 1).as_dict(), **damage}
    assert naming.Labels.of({k: v for k, v in labels.items() if v is not None}) is None
