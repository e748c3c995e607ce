"""The reference: page, schema, and example manifests that stay complete and valid."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from bottle_fsm.manifest.hostcheck import validate_host
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.model import EnvValue, Rule
from bottle_fsm.manifest.names import check_variable
from bottle_fsm.manifest.planned import PLANNED_RULE_KEYS
from bottle_fsm.manifest.reference import page, schema, sections, write_page
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.shape import keys_of, model_at
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host
from bottle_fsm.provision.environment import agent_environment

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "manifests").glob("*.yaml"))


def test_has_a_page_that_is_up_to_date(tmp_path: Path) -> None:
    write_page(tmp_path / "manifest.md")
    assert (ROOT / "docs/manifest.md").read_text() == (tmp_path / "manifest.md").read_text() == page()


def test_describes_every_key_on_its_page() -> None:
    models = [model for _, model in sections()]
    assert {Rule, EnvValue} < set(models)
    assert len(models) == len(set(models))
    for model in models:
        assert model.__doc__
        for key, field in zip(keys_of(model), model.model_fields.values(), strict=True):
            assert field.description
            assert f"\n| `{key}` |" in page()


def test_marks_what_is_planned_on_its_page() -> None:
    marked = re.findall(r"\| `(\w+)` \|.*\| \*\*Planned\.\*\*", page())
    assert tuple(marked) == PLANNED_RULE_KEYS


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_ships_manifests_that_load(path: Path) -> None:
    assert load_manifest(path).manifest.name == path.stem


def test_ships_a_reference_that_holds_every_key() -> None:
    text = (ROOT / "manifests/reference.yaml").read_text()
    written = set(re.findall(r"(\w+):", text))
    assert {key for _, model in sections() for key in keys_of(model)} - written == set()


def test_ships_a_reference_that_comments_out_only_planned_keys() -> None:
    lines = (ROOT / "manifests/reference.yaml").read_text().splitlines()
    commented = {match[1] for line in lines if (match := re.match(r" +# (\w+):.*planned", line))}
    assert commented == set(PLANNED_RULE_KEYS)


def test_ships_a_hello_that_this_host_can_launch(tmp_path: Path) -> None:
    loaded = load_manifest(ROOT / "manifests/hello.yaml")
    (spec,) = specs(loaded.manifest, loaded.path)
    host = Host(root_id="r", state_dir=tmp_path / "state", home=tmp_path, environ={})
    assert validate_host(spec, host, place=loaded.place) == []
    agent = spec.agent_model
    assert agent is not None
    assert (spec.bottle, agent.command, agent.workspace.mode) == ("hello/greeter", ("bash",), "copy")
    assert agent.prompt
    assert agent.skills
    assert agent.git
    assert spec.reach is not None
    assert spec.reach.egress.allow == (Rule(host="example.org"),)


def test_ships_a_skill_script_that_a_shell_can_read() -> None:
    script = ROOT / "manifests/skills/greet/scripts/reach.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", script], check=True)


def test_has_a_schema_that_knows_short_forms_and_closes_every_mapping() -> None:
    value = schema()
    assert value["required"] == ["version", "bottles", "agents"]
    assert all(model["additionalProperties"] is False for model in value["$defs"].values())
    allow = value["$defs"]["Egress"]["properties"]["allow"]["items"]
    assert {"type": "string"} in allow["anyOf"]
    assert {"$ref": "#/$defs/Rule"} in allow["anyOf"]
    assert "from" in value["$defs"]["EnvValue"]["properties"]


def test_finds_the_model_of_a_key_path() -> None:
    assert model_at(("bottles", "x", "egress", "allow", 3)) is Rule
    assert model_at(("bottles", "x", "env", "A")) is EnvValue
    assert model_at(("name",)) is None
    assert model_at(("nothing", "below")) is None


def test_reserves_every_variable_that_the_launcher_sets() -> None:
    for name in agent_environment("10.213.0.2"):
        with pytest.raises(Refusal, match="is reserved"):
            check_variable(name)
