"""The nouns survive the way to JSON and back, and canonical bytes are canonical."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.model import Event, Observed, Resource, canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_writes_equal_values_as_equal_bytes(value: object) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)


def test_ignores_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()


def test_brings_resources_back() -> None:
    resource = Resource("container", "guard", "n", "id", "L", "s", 3, "exited", False, False, {"exit_code": 1})
    assert Resource.from_json(json.loads(json.dumps(resource.to_json()))) == resource


def test_keeps_foreign_objects_apart() -> None:
    ours = Resource("container", "guard", "a", "1")
    foreign = Resource("container", "guard", "b", "2", foreign=True)
    observed = Observed((ours, foreign))
    assert observed.ours == observed.of_role("guard") == (ours,)


def test_brings_events_back_with_the_resources_they_name() -> None:
    resource = Resource("network", "net-inside", "n", "id").to_json()
    event = Event(
        sequence=1, time="t", monotonic=1.5, boot="b", run="r", epoch=1, actor={"uid": 0}, bottle="d/o", launch="L",
        machine="m", spec="s", kind="done", trigger="t", source="a", dest="b", attempt=1, cause="c",
        resources=(resource,), evidence={}, error="", duration=0.1, prev="p", hash="h",
    )  # fmt: skip
    assert "hash" not in event.body()
    assert Event.from_body(json.loads(canonical(event.body())), "h") == event
