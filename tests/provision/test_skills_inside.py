from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.skills import NOTE, SkillsProvisioner
from bottle_fsm.provision.tree import read_tree, tree_inside
from provision_bench import RecordedStep, RecordedSteps

pytestmark = pytest.mark.engine

DIRECTORY = "/home/agent/.claude/skills"


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    root = tmp_path / "review"
    (root / "scripts").mkdir(parents=True)
    (root / "SKILL.md").write_text("---\nname: review\n---\nLook twice.\n")
    (root / "scripts" / "run it.sh").write_text("#!/bin/sh\necho ran\n")
    (root / "scripts" / "run it.sh").chmod(0o755)
    (root / "secret.txt").write_text("private")
    (root / "secret.txt").chmod(0o600)
    (root / "linked.md").symlink_to("scripts/../SKILL.md")
    return root


def item(*sources: Path) -> ProvisionItem:
    skills = [{"name": s.name, "source": str(s), "sha256": read_tree(s).digest} for s in sources]
    return ProvisionItem("skills", asked=True, inputs={"directory": DIRECTORY, "skills": skills})


def apply(bottle: DockerBottle, what: ProvisionItem) -> dict[str, Any]:
    step = RecordedStep()
    SkillsProvisioner().apply(bottle, what, RecordedSteps(), step)
    SkillsProvisioner().verify(bottle, what)
    found: dict[str, Any] = step.findings["skills"]
    return found


@pytest.fixture(autouse=True)
def _clean(agent: DockerBottle) -> None:
    agent.exec(["rm", "-rf", "/home/agent/.claude", "/home/agent/.bottle"])


def test_copies_the_tree_with_its_modes_and_links(agent: DockerBottle, skill: Path) -> None:
    evidence = apply(agent, item(skill))
    inside = f"{DIRECTORY}/review"
    assert agent.exec([f"{inside}/scripts/run it.sh"]).text == "ran"
    assert agent.exec(["stat", "-c", "%a %U", f"{inside}/secret.txt"]).text == "600 agent"
    assert agent.exec(["readlink", f"{inside}/linked.md"]).text == "scripts/../SKILL.md"
    assert evidence == {"sha256": {"review": read_tree(skill).digest}, "changed": ["review"], "removed": []}
    assert agent.exec(["sh", "-c", f"ls -A {DIRECTORY}"]).text == "review"


def test_reads_the_same_digest_inside_as_on_the_host(agent: DockerBottle, skill: Path) -> None:
    apply(agent, item(skill))
    found = tree_inside(agent, f"{DIRECTORY}/review")
    assert found is not None
    assert found.digest == read_tree(skill).digest
    assert tree_inside(agent, f"{DIRECTORY}/absent") is None


def test_changes_nothing_the_second_time(agent: DockerBottle, skill: Path) -> None:
    apply(agent, item(skill))
    look = ["sh", "-c", f"find {DIRECTORY} ~/.bottle -exec stat -c '%n %i %Z' {{}} +"]
    before = agent.exec(look).text
    assert apply(agent, item(skill))["changed"] == []
    assert agent.exec(look).text == before


def test_refuses_a_source_that_changed_since_the_plan(agent: DockerBottle, skill: Path) -> None:
    planned = item(skill)
    (skill / "SKILL.md").write_text("changed")
    with pytest.raises(DecisionNeededError, match="changed since the plan") as caught:
        apply(agent, planned)
    assert caught.value.exit_code == 4
    assert tree_inside(agent, f"{DIRECTORY}/review") is None


def test_refuses_a_source_whose_mode_changed(agent: DockerBottle, skill: Path) -> None:
    planned = item(skill)
    (skill / "SKILL.md").chmod(0o755)
    with pytest.raises(DecisionNeededError, match="changed since the plan"):
        apply(agent, planned)


def test_refuses_a_source_that_went_away(agent: DockerBottle, skill: Path) -> None:
    planned = item(skill)
    skill.rename(skill.with_name("elsewhere"))
    with pytest.raises(DecisionNeededError, match="no longer at"):
        apply(agent, planned)


def test_takes_ours_away_when_the_manifest_names_them_no_longer(agent: DockerBottle, skill: Path) -> None:
    other = skill.with_name("other")
    other.mkdir()
    (other / "SKILL.md").write_text("other")
    apply(agent, item(skill, other))
    agent.exec(["mkdir", "-p", f"{DIRECTORY}/its-own"])
    assert apply(agent, item(other))["removed"] == ["review"]
    assert agent.exec(["ls", DIRECTORY]).text.split() == ["its-own", "other"]
    assert json.loads(agent.read_file(NOTE))["skills"] == {"other": read_tree(other).digest}


def test_believes_no_note_that_names_a_path(agent: DockerBottle, skill: Path) -> None:
    apply(agent, item(skill))
    agent.copy_in(json.dumps({"directory": DIRECTORY, "skills": {"../../victim": "x", ".": "y"}}).encode(), NOTE)
    agent.exec(["mkdir", "/home/agent/victim"])
    assert apply(agent, item(skill))["removed"] == []
    assert agent.exec(["test", "-d", "/home/agent/victim"]).code == 0


@pytest.mark.parametrize("note", [b"not json", b"[]", b'{"directory": "/elsewhere", "skills": {"review": "x"}}'])
def test_works_on_when_the_note_makes_no_sense(agent: DockerBottle, skill: Path, note: bytes) -> None:
    apply(agent, item(skill))
    agent.copy_in(note, NOTE)
    evidence = apply(agent, item(skill))
    assert (evidence["changed"], evidence["removed"]) == ([], [])


def test_keeps_a_skill_that_the_agent_changed(agent: DockerBottle, skill: Path) -> None:
    apply(agent, item(skill))
    agent.exec(["sh", "-c", f"echo learned >> {DIRECTORY}/review/SKILL.md"])
    with pytest.raises(ProvisionError, match="holds something else"):
        SkillsProvisioner().verify(agent, item(skill))
    assert apply(agent, item(skill))["changed"] == ["review"]
    assert "learned" in agent.exec(["sh", "-c", "cat ~/.bottle/saved/review.*/SKILL.md"]).text


def test_replaces_its_own_tree_when_the_manifest_brings_another(agent: DockerBottle, skill: Path) -> None:
    apply(agent, item(skill))
    (skill / "secret.txt").unlink()
    assert apply(agent, item(skill))["changed"] == ["review"]
    assert agent.exec(["test", "-e", f"{DIRECTORY}/review/secret.txt"]).code == 1
    assert agent.exec(["test", "-e", "/home/agent/.bottle/saved"]).code == 1


def test_clears_what_an_interrupted_copy_left(agent: DockerBottle, skill: Path) -> None:
    agent.exec(["sh", "-c", f"mkdir -p {DIRECTORY}/.bottle-incoming/x; echo old > {DIRECTORY}/.bottle-incoming/stale"])
    apply(agent, item(skill))
    assert agent.exec(["test", "-e", f"{DIRECTORY}/review/stale"]).code == 1


def test_names_a_skill_that_is_missing(agent: DockerBottle, skill: Path) -> None:
    with pytest.raises(ProvisionError, match="review is not there"):
        SkillsProvisioner().verify(agent, item(skill))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "scripts/../../outside", "scripts/up/outside"])
def test_refuses_a_link_that_leaves_the_tree(skill: Path, target: str) -> None:
    (skill / "scripts" / "up").symlink_to("../..")
    if not target.startswith("scripts/up"):
        (skill / "scripts" / "up").unlink()
        (skill / "bad").symlink_to(target)
    with pytest.raises(ProvisionError, match="the link leaves the tree"):
        read_tree(skill)


def test_refuses_what_is_no_file(skill: Path) -> None:
    os.mkfifo(skill / "pipe")
    with pytest.raises(ProvisionError, match="neither a file"):
        read_tree(skill)


def test_refuses_a_set_user_id_file(skill: Path) -> None:
    (skill / "secret.txt").chmod(0o4755)
    with pytest.raises(ProvisionError, match="set-user-id"):
        read_tree(skill)


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "esc\x1b[1m"])
def test_refuses_names_that_break_lists(skill: Path, name: str) -> None:
    (skill / name).touch()
    with pytest.raises(ProvisionError, match="control characters"):
        read_tree(skill)


def test_refuses_a_tree_that_is_too_large(skill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottle_fsm.provision.tree.MAX_BYTES", 10)
    with pytest.raises(ProvisionError, match="larger than"):
        read_tree(skill)


def test_says_which_tree_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match=r"absent: cannot be read: No such file"):
        read_tree(tmp_path / "absent")
