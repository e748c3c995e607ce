from __future__ import annotations

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.prompt import PromptProvisioner
from provision_bench import RecordedStep, RecordedSteps

pytestmark = pytest.mark.engine

TARGET = "/home/agent/.claude/CLAUDE.md"
TEXT = "You are careful.\n'quotes' \"and\" $(nothing) `runs` ü\n"


def item(text: str = TEXT, target: str = TARGET) -> ProvisionItem:
    return ProvisionItem("prompt", asked=True, inputs={"target": target, "text": text})


def apply(bottle: DockerBottle, what: ProvisionItem) -> dict[str, object]:
    step = RecordedStep()
    PromptProvisioner().apply(bottle, what, RecordedSteps(), step)
    PromptProvisioner().verify(bottle, what)
    found: dict[str, object] = step.findings["prompt"]
    return found


def test_writes_the_prompt_for_the_agent_alone(agent: DockerBottle) -> None:
    evidence = apply(agent, item())
    assert agent.read_file(TARGET).decode() == TEXT
    assert agent.exec(["stat", "-c", "%a %U", TARGET]).text == "600 agent"
    assert evidence["changed"] is True
    assert TEXT not in str(evidence)


def test_changes_nothing_the_second_time(agent: DockerBottle) -> None:
    apply(agent, item())
    before = agent.exec(["stat", "-c", "%i %Y %Z", TARGET]).text
    assert apply(agent, item())["changed"] is False
    assert agent.exec(["stat", "-c", "%i %Y %Z", TARGET]).text == before


def test_keeps_what_the_agent_added_when_it_writes_again(agent: DockerBottle) -> None:
    apply(agent, item())
    agent.exec(["sh", "-c", f"echo 'remember this' >> {TARGET}"])
    with pytest.raises(ProvisionError, match="holds something else"):
        PromptProvisioner().verify(agent, item())
    assert apply(agent, item())["changed"] is True
    saved = agent.exec(["sh", "-c", "cat ~/.bottle/saved/*"]).text
    assert saved.endswith("remember this")


def test_saves_nothing_when_only_the_manifest_changed(agent: DockerBottle) -> None:
    apply(agent, item("first"))
    agent.exec(["rm", "-rf", "/home/agent/.bottle/saved"])
    apply(agent, item("second"))
    assert agent.exec(["ls", "/home/agent/.bottle/saved"]).code != 0


def test_mends_mode_and_names_what_is_wrong(agent: DockerBottle) -> None:
    apply(agent, item())
    agent.exec(["chmod", "644", TARGET])
    with pytest.raises(ProvisionError, match="mode 644 and owner 1000"):
        PromptProvisioner().verify(agent, item())
    apply(agent, item())
    agent.exec(["rm", TARGET])
    with pytest.raises(ProvisionError, match="is not there"):
        PromptProvisioner().verify(agent, item())


def test_replaces_a_link_instead_of_writing_through_it(agent: DockerBottle) -> None:
    target = "/home/agent/elsewhere/prompt.md"
    agent.exec(["sh", "-c", "mkdir -p ~/elsewhere; echo precious > ~/victim; ln -s ~/victim ~/elsewhere/prompt.md"])
    apply(agent, item(target=target))
    assert agent.read_file("/home/agent/victim") == b"precious\n"
    assert agent.exec(["test", "-L", target]).code == 1
