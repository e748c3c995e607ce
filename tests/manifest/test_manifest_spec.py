"""BottleSpec: reduction to one bottle, the way through JSON, and a digest that follows the user's wish alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.names import TRUST_VARIABLES
from bottle_fsm.manifest.spec import BottleSpec, specs

PATH = Path("/project/demo.yaml")
VALUE: dict[str, Any] = {
    "version": 1,
    "name": "demo",
    "bottles": {
        "dev": {
            "env": {"A": "1", "K": {"from": "${K}", "secret": True, "to": ["a.b"]}},
            "egress": {"allow": ["a.b:80"]},
        },
        "ops": {"image": "other:1"},
    },
    "agents": {"one": {"bottle": "dev", "provider": "claude"}, "two": {"bottle": "ops"}, "lost": {"bottle": "none"}},
}


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate({**VALUE, **changes})


def test_gives_one_spec_for_each_agent_in_order() -> None:
    assert [spec.bottle for spec in specs(manifest(), PATH)] == ["demo/one", "demo/two", "demo/lost"]


def test_gives_the_specs_that_are_named() -> None:
    assert [spec.agent for spec in specs(manifest(), PATH, ["two", "one"])] == ["two", "one"]


def test_keeps_only_its_own_agent_and_reach() -> None:
    spec = specs(manifest(), PATH, ["two"])[0]
    assert (list(spec.manifest.agents), list(spec.manifest.bottles)) == (["two"], ["ops"])
    assert spec.agent_model == manifest().agents["two"]
    assert spec.reach == manifest().bottles["ops"]
    assert spec.base_dir == Path("/project")


def test_keeps_an_agent_whose_reach_is_missing() -> None:
    spec = specs(manifest(), PATH, ["lost"])[0]
    assert spec.agent_model is not None
    assert spec.reach is None


def test_keeps_an_agent_that_the_manifest_lacks() -> None:
    spec = specs(manifest(), PATH, ["ghost"])[0]
    assert (spec.bottle, spec.agent_model, spec.reach) == ("demo/ghost", None, None)
    assert BottleSpec.from_json(spec.to_json()) == spec


def test_goes_through_json_unchanged() -> None:
    for spec in specs(manifest(), PATH):
        again = BottleSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert (again, again.digest) == (spec, spec.digest)


def test_digests_spelled_out_defaults_like_absent_ones() -> None:
    short = {"version": 1, "name": "x", "bottles": {"b": {}}, "agents": {"a": {"bottle": "b"}}}
    bottle = {"env": {}, "egress": {"guard": "auto", "allow": []}, "resources": {"cpus": 2}}
    long = {**short, "backend": "auto", "bottles": {"b": bottle}, "agents": {"a": {"bottle": "b", "prompt": ""}}}
    assert _digest(short) == _digest(long)


def _digest(value: dict[str, Any]) -> str:
    return specs(Manifest.model_validate(value), PATH)[0].digest


def test_digests_every_wish_and_the_path() -> None:
    digests = {
        specs(manifest(), PATH)[0].digest,
        specs(manifest(), Path("/other/demo.yaml"))[0].digest,
        specs(manifest(name="other"), PATH)[0].digest,
        specs(manifest(backend="docker"), PATH)[0].digest,
        specs(manifest(bottles={"dev": {}}), PATH)[0].digest,
        specs(manifest(agents={"one": {"bottle": "dev"}}), PATH)[0].digest,
    }
    assert len(digests) == 6
    assert all(len(digest) == 64 for digest in digests)


def test_does_not_digest_what_belongs_to_other_bottles() -> None:
    changed = manifest(bottles={**VALUE["bottles"], "ops": {"image": "changed:2"}})
    assert specs(changed, PATH)[0].digest == specs(manifest(), PATH)[0].digest


def test_has_a_digest_that_no_process_changes() -> None:
    # A literal: the digest is stored in journals, so that a change of its making must be a decision.
    value = {"version": 1, "name": "x", "bottles": {"b": {}}, "agents": {"a": {"bottle": "b"}}}
    assert _digest(value) == "a0f032e69fe65d3618defc2e304e74230946ff048921ec0dbc210eb2a38ff2c0"


VARIABLES = st.dictionaries(
    st.from_regex(r"[A-Z]{1,4}", fullmatch=True).filter(
        lambda name: name not in {*TRUST_VARIABLES, "ENV", "HOME", "USER"}
    ),
    st.text(st.characters(exclude_categories=["C"], exclude_characters="$?")),
    max_size=5,
)


@given(VARIABLES, st.randoms(use_true_random=False))
def test_digests_the_same_wish_alike_in_any_order(env: dict[str, str], random: Any) -> None:
    items = list(env.items())
    random.shuffle(items)
    one = specs(manifest(bottles={"dev": {"env": env}}), PATH)[0]
    other = specs(manifest(bottles={"dev": {"env": dict(items)}}), PATH)[0]
    assert one.digest == other.digest == BottleSpec.from_json(one.to_json()).digest
