"""Any structure that YAML can hold is either a manifest or refused with problems that name a place in the file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.errors import ManifestError
from bottle_fsm.manifest.load import Loaded, load_manifest
from bottle_fsm.manifest.reference import sections
from bottle_fsm.manifest.shape import keys_of
from bottle_fsm.manifest.spec import BottleSpec, specs

KEYS = sorted({key for _, model in sections() for key in keys_of(model)} | {"dev", "one", "zzz", "a.b"})
SCALARS = st.sampled_from(
    [
        "",
        "dev",
        "auto",
        "claude",
        "?q",
        "${X}",
        "$",
        "a.b",
        "*.a.b:80",
        "*",
        "10.0.0.1",
        "10.0.0.0/16",
        "4g",
        "copy",
        "é.",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | st.floats(-1, 9) | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
GOOD: dict[str, Any] = {
    "version": 1,
    "bottles": {"dev": {"env": {"A": "b"}, "egress": {"allow": ["a.b"]}, "resources": {"pids": 512}}},
    "agents": {"one": {"bottle": "dev", "workspace": {"source": "."}}},
}


def load(value: dict[str, Any]) -> Loaded | ManifestError:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.yaml"
        file.write_text(json.dumps(value))
        try:
            return load_manifest(file)
        except ManifestError as error:
            return error


def holds(answer: Loaded | ManifestError) -> bool:
    if isinstance(answer, ManifestError):
        return all(p.problem and "m.yaml" in p.place and not p.problem.endswith(".") for p in answer.problems)
    found = specs(answer.manifest, answer.path)
    return all(spec.reach is not None and BottleSpec.from_json(spec.to_json()) == spec for spec in found)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1, max_size=5))
def test_loads_or_refuses_any_structure(value: dict[str, Any]) -> None:
    assert holds(load(value))


@given(st.sampled_from(["bottles", "agents"]), st.sampled_from(KEYS), ANYTHING)
def test_loads_or_refuses_a_good_manifest_with_one_odd_key(part: str, key: str, odd: Any) -> None:
    name = "dev" if part == "bottles" else "one"
    assert holds(load({**GOOD, part: {name: {**GOOD[part][name], key: odd}}}))


@given(ANYTHING)
def test_loads_or_refuses_a_good_manifest_with_one_odd_rule(odd: Any) -> None:
    bottle = {**GOOD["bottles"]["dev"], "egress": {"allow": [odd]}}
    assert holds(load({**GOOD, "bottles": {"dev": bottle}}))
