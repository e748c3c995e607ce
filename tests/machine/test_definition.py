"""`states/*.yaml` is validated strictly: each way of being wrong is refused with its own message."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from bottle_fsm.errors import DefinitionError
from bottle_fsm.machine.definition import parse
from bottle_fsm.runner.registry import NAMES, load_definition


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    return load_definition().raw


def _edge(value: dict[str, Any], trigger: str) -> dict[str, Any]:
    return next(t for t in value["transitions"] if t["trigger"] == trigger)


def _drop_state(value: dict[str, Any]) -> None:
    value["transitions"] = [t for t in value["transitions"] if t["trigger"] != "provision"]


BROKEN: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("an unknown top key", lambda v: v.update(extra=1), "unknown key 'extra'"),
    ("another version", lambda v: v.update(version=2), "version must be 1"),
    ("a version to migrate from that is none", lambda v: v.update(migrates_from=["v1"]), "each of 16 hex digits"),
    ("versions that are no texts", lambda v: v.update(migrates_from=[1]), "each of 16 hex digits"),
    ("versions that are no list", lambda v: v.update(migrates_from="0123456789abcdef"), "each of 16 hex digits"),
    ("a version twice", lambda v: v.update(migrates_from=["0123456789abcdef"] * 2), "a version twice"),
    ("a missing part", lambda v: v.pop("states"), "malformed definition"),
    ("an unknown state key", lambda v: v["states"][0].update(colour="red"), "unknown key 'colour'"),
    ("an unknown edge key", lambda v: v["transitions"][0].update(guard="x"), "unknown key 'guard'"),
    ("an unknown retry key", lambda v: _edge(v, "plan")["retry"].update(forever=True), "unknown key 'forever'"),
    ("a wildcard source", lambda v: _edge(v, "plan").update(source=["*"]), "without wildcards"),
    ("a wildcard text", lambda v: _edge(v, "plan").update(source="*"), "without wildcards"),
    ("no source", lambda v: _edge(v, "plan").update(source=[]), "without wildcards"),
    ("a state twice", lambda v: v["states"].insert(1, {"name": "declared", "means": "again"}), "declared twice"),
    ("no initial state", lambda v: v["states"][0].update(initial=False), "first state must be initial"),
    ("no final state", lambda v: v["states"][-1].update(final=False), "last state must be final"),
    ("a dotted state", lambda v: v["states"][1].update(name="a.b"), "not a plain name"),
    ("a dotted effect", lambda v: _edge(v, "plan").update(effect="os.system"), "unknown function 'os.system'"),
    ("an unknown effect", lambda v: _edge(v, "plan").update(effect="plam"), "unknown function 'plam'"),
    ("an unknown compensation", lambda v: _edge(v, "plan").update(compensate="undo"), "unknown function 'undo'"),
    ("an unknown feature", lambda v: _edge(v, "plan").update(needs="gpu"), "unknown feature 'gpu'"),
    ("an unknown source", lambda v: _edge(v, "plan").update(source=["nowhere"]), "unknown state 'nowhere'"),
    ("an unknown dest", lambda v: _edge(v, "plan").update(dest="nowhere"), "unknown state 'nowhere'"),
    ("a way out of the end", lambda v: _edge(v, "plan").update(source=["torn_down"]), "nothing leads out"),
    ("a trigger twice", lambda v: _edge(v, "plan").update(trigger="validate"), "declared twice"),
    ("a trigger named like a state", lambda v: _edge(v, "plan").update(trigger="planned"), "not usable as a name"),
    ("a trigger named like the model", lambda v: _edge(v, "plan").update(trigger="state"), "not usable as a name"),
    ("a dotted trigger", lambda v: _edge(v, "plan").update(trigger="a.b"), "not usable as a name"),
    ("an unknown error class", lambda v: _edge(v, "plan")["retry"].update(on=["bad_luck"]), "unknown error class"),
    ("no time", lambda v: _edge(v, "plan").update(attempt_timeout=0), "attempt_timeout must be"),
    ("a deadline too short", lambda v: _edge(v, "plan").update(deadline=1), "attempt_timeout must be"),
    ("no attempts", lambda v: _edge(v, "plan")["retry"].update(max_attempts=0), "retry wants"),
    ("too much jitter", lambda v: _edge(v, "plan")["retry"].update(jitter=2), "retry wants"),
    ("an unreachable state", _drop_state, "cannot be reached"),
    ("a dead end", lambda v: _edge(v, "tear_down")["source"].remove("planned"), "has no way to torn_down"),
    ("a gap", lambda v: _edge(v, "plan").update(source=["declared"]), "no transition to the next state"),
]


@pytest.mark.parametrize(("what", "damage", "message"), BROKEN, ids=[b[0] for b in BROKEN])
def test_refuses(what: str, damage: Callable[[dict[str, Any]], object], message: str, shipped: dict[str, Any]) -> None:
    value = copy.deepcopy(shipped)
    damage(value)
    with pytest.raises(DefinitionError, match=message):
        parse(value, place="bottle.yaml", names=NAMES)


def test_loads_the_shipped_machine_in_the_order_of_a_launch() -> None:
    definition = load_definition()
    assert definition.order == (
        "declared",
        "validated",
        "planned",
        "proxies_up",
        "mitm_up",
        "agent_up",
        "ca_trusted",
        "provisioned",
        "torn_down",
    )
    assert definition.initial == "declared"
    assert definition.final == "torn_down"
    assert definition.reached_by("mitm_up") == definition.order[:5]


def test_walks_forward_to_the_last_state_before_the_end(shipped: dict[str, Any]) -> None:
    definition = load_definition()
    state, triggers = definition.initial, []
    while (transition := definition.forward(state)) is not None:
        triggers.append(transition.trigger)
        state = transition.dest
    assert state == "provisioned"
    assert triggers == ["validate", "plan", "start_proxies", "start_mitm", "start_agent", "trust_ca", "provision"]
    assert definition.forward("torn_down") is None


def test_changes_its_version_with_any_value(shipped: dict[str, Any]) -> None:
    value = copy.deepcopy(shipped)
    value["transitions"][0]["deadline"] = 121
    changed = parse(value, place="x", names=NAMES)
    assert changed.version != load_definition().version
    assert parse(copy.deepcopy(shipped), place="y", names=NAMES).version == load_definition().version


@pytest.mark.parametrize(
    ("given", "expected"), [({}, ()), ({"migrates_from": []}, ()), ({"migrates_from": ["0" * 16]}, ("0" * 16,))]
)
def test_takes_launches_of_declared_versions_over(
    given: dict[str, Any], expected: tuple[str, ...], shipped: dict[str, Any]
) -> None:
    value = {k: v for k, v in copy.deepcopy(shipped).items() if k != "migrates_from"}
    assert parse(value | given, place="x", names=NAMES).migrates_from == expected


def test_refuses_to_name_a_transition_that_is_not_there() -> None:
    with pytest.raises(DefinitionError, match="no transition is triggered by 'fly'"):
        load_definition().transition("fly")
