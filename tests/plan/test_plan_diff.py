"""From plan and world to operations: every case as data, the text that people read as the expectation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.model import Launch, Observed, Resource
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject, ProvisionItem, digest
from bottle_fsm.plan.diff import changed_keys, diff, unmet

LAUNCH = Launch("root", "demo/one", "L1", "slug", 1, facts={"image.agent": "sha256:1"})
NETWORK = PlannedObject("net-inside", "network", "net", "proxies_up", {"subnet": "a"})
GUARD = PlannedObject("guard", "container", "guard", "proxies_up", {"policy": {"allow": ["x"]}}, runs=True)
AGENT = PlannedObject(
    "agent", "container", "agent", "agent_up", {"env": {"A": "1"}}, ("image.agent",), runs=True, precious=True
)


def plan(*objects: PlannedObject) -> BottlePlan:
    return BottlePlan(
        bottle="demo/one", slug="slug", backend="fake", spec="s", endpoint={}, guard="builtin", guard_reason="",
        objects=objects or (NETWORK, GUARD, AGENT), policy={}, env={"A": "1"}, secrets={"T": ("h",)},
        provision=(ProvisionItem("prompt", asked=True, inputs={"text": "x"}),), warnings=("w",), isolation=("i",),
    )  # fmt: skip


def found(target: PlannedObject, **changes: Any) -> Resource:
    resource = Resource(
        target.kind, target.role, target.name, f"id-{target.name}", LAUNCH.launch, target.spec(LAUNCH.facts), 1,
        "running" if target.runs else "present", True if target.runs else None,
    )  # fmt: skip
    return replace(resource, **changes)


ALL = (found(NETWORK), found(GUARD), found(AGENT))
ENDED = "start guard guard: exited with code 137"
FOREIGN = "refuse guard guard: an object of this name exists and is not ours"
TWINS = ["adopt net-inside net: found as planned", "remove net-inside net: a duplicate"]
CASES: list[tuple[str, tuple[Resource, ...], list[str]]] = [
    ("an empty world", (), [f"create {o.role} {o.name}: not found" for o in (NETWORK, GUARD, AGENT)]),
    ("everything there", ALL, [f"adopt {o.role} {o.name}: found as planned" for o in (NETWORK, GUARD, AGENT)]),
    ("a stopped guard", (found(GUARD, state="exited", detail={"exit_code": 137}),), [ENDED]),
    ("a guard that stands still", (found(GUARD, state="paused"),), ["start guard guard: not running"]),
    ("one never started", (found(GUARD, state="created"),), ["replace guard guard: was created but never started"]),
    ("a sick guard", (found(GUARD, healthy=False),), ["replace guard guard: fails its health check"]),
    ("health not known", (found(GUARD, healthy=None),), ["adopt guard guard: found as planned"]),
    ("another launch's", (found(GUARD, launch="L0"),), ["replace guard guard: belongs to another launch, L0"]),
    ("another spec", (found(GUARD, spec="x"),), ["replace guard guard: made from other inputs"]),
    ("a foreign one", (found(GUARD, foreign=True),), [FOREIGN]),
    ("a duplicate", (found(NETWORK, id="old"), found(NETWORK, id="new")), TWINS),
    ("a stranger of ours", (found(replace(GUARD, role="sidecar", name="x")),), ["remove sidecar x: not in the plan"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "world", "expected"), CASES, ids=[c[0] for c in CASES])
def test_says_what_to_do_and_why(what: str, world: tuple[Resource, ...], expected: list[str]) -> None:
    texts = [str(o) for o in diff(plan(), Observed(world), LAUNCH)]
    for text in expected:
        assert text in texts


def test_keeps_the_duplicate_that_has_our_members() -> None:
    world = (found(NETWORK, id="empty"), found(NETWORK, id="used", detail={"ours_inside": True}))
    operations = diff(plan(), Observed(world), LAUNCH)
    assert [(o.action, o.found.id) for o in operations if o.found] == [("adopt", "used"), ("remove", "empty")]


def test_names_the_changed_key() -> None:
    before = plan(replace(GUARD, inputs={"policy": {"allow": ["y"]}}))
    world = Observed((found(before.objects[0]),))
    (operation,) = diff(plan(GUARD), world, LAUNCH, before)
    assert operation.cause == "manifest changed: policy.allow"


def test_says_so_when_only_a_fact_changed() -> None:
    newer = replace(LAUNCH, facts={"image.agent": "sha256:2"})
    (operation,) = diff(plan(AGENT), Observed((found(AGENT),)), newer, plan(AGENT))
    assert (operation.action, operation.cause) == ("replace", "its image or network changed")


def test_asks_of_a_state_only_what_it_promises() -> None:
    world = Observed((found(NETWORK), found(GUARD)))
    assert unmet(plan(), world, LAUNCH, ["proxies_up"]) == []
    assert [o.role for o in unmet(plan(), world, LAUNCH, ["proxies_up", "agent_up"])] == ["agent"]
    assert unmet(plan(), Observed(()), LAUNCH, ["declared"]) == []


def test_does_not_miss_a_promise_because_of_a_stranger() -> None:
    stranger = found(replace(GUARD, role="sidecar", name="x"))
    assert unmet(plan(), Observed((*ALL, stranger)), LAUNCH, ["proxies_up", "agent_up"]) == []


@pytest.mark.parametrize(
    ("before", "after", "depth", "expected"),
    [
        ({"a": 1}, {"a": 1}, 3, set()),
        ({"a": 1}, {"a": 2, "b": 3}, 3, {"a", "b"}),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": {"d": 2}}}}, 3, {"a.b.c"}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, 1, {"a"}),
        ({"a": {"b": 1}}, {"a": [1]}, 3, {"a"}),
    ],
)
def test_finds_the_paths_that_differ(before: Any, after: Any, depth: int, expected: set[str]) -> None:
    assert changed_keys(before, after, depth) == expected


def test_comes_back_from_json_as_it_was() -> None:
    original = plan()
    again = BottlePlan.from_json(json.loads(json.dumps(original.to_json())))
    assert again == original
    assert again.digest == original.digest
    assert again.object("guard") == GUARD
    assert again.item("prompt").asked
    assert again.item("ssh") == ProvisionItem("ssh", asked=False, reason="nothing asked")


@given(st.dictionaries(st.text(), st.integers()), st.text())
def test_digests_the_inputs_and_the_named_facts_only(inputs: dict[str, int], image: str) -> None:
    target = replace(AGENT, inputs=inputs)
    assert target.spec({"image.agent": image}) == target.spec({"image.agent": image, "epoch": "9"})
    assert target.spec({"image.agent": image}) != target.spec({"image.agent": image + "x"})
    assert digest(inputs) == digest(dict(reversed(inputs.items())))
