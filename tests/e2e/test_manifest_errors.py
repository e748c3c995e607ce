"""What is wrong with a manifest is said with place and hint, before anything is made and without an engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e_bench import Person

GOOD = """\
version: 1
name: trial
bottles:
  room:
    env: {COLOUR: blue}
    egress: {allow: [example.org]}
agents:
  guest:
    bottle: room
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

CASES = {
    "a bottle that is not there": (
        GOOD.replace("bottle: room", "bottle: rom"),
        r"trial\.yaml:9 agents/guest/bottle: .*`?rom`?.*room",
    ),
    "a skill that is not there": (
        GOOD + "    skills: [./skills/none]\n",
        r"trial\.yaml:10 agents/guest/skills/0: .*skills/none.*\. \w+",
    ),
    "an identity file that cannot be read": (
        GOOD.replace(
            "agents:",
            f"    ssh: [{{host: code.example.org, user: git, identity_file: ./none, known_host_key: {KEY}}}]\nagents:",
        ),
        r"trial\.yaml:7 bottles/room/ssh/0/identity_file: .*none.*\. \w+",
    ),
    "a host variable that is not defined": (
        GOOD.replace("COLOUR: blue", 'COLOUR: "${NOT_DEFINED_HERE}"'),
        r"trial\.yaml:5 bottles/room/env/COLOUR: .*NOT_DEFINED_HERE.*\. \w+",
    ),
    "an unknown key": (
        GOOD.replace("egress:", "egres:"),
        r"trial\.yaml:6 bottles/room/egres: .*not known\. Did you mean `egress`\?",
    ),
    "a wrong type": (
        GOOD.replace("[example.org]", "7"),
        r"trial\.yaml:6 bottles/room/egress/allow: .*\. \w+",
    ),
    "a duplicate key": (
        GOOD + "    bottle: room\n",
        r"trial\.yaml:10 agents/guest/bottle: .*on line 9\. Keep one of them\.",
    ),
}


@pytest.fixture(name="person")
def _person(tmp_path: Path) -> Person:
    return Person(tmp_path, f"unix://{tmp_path}/no-engine-here.sock")


@pytest.mark.parametrize("verb", ["apply", "plan"])
@pytest.mark.parametrize("case", CASES)
def test_says_place_and_hint_and_makes_nothing_for(person: Person, case: str, verb: str) -> None:
    text, expected = CASES[case]
    (person.place / "trial.yaml").write_text(text)
    ended = person.run(verb, person.place / "trial.yaml", "--backend", "docker")
    assert ended.code == 1, ended.err
    assert re.search(expected, ended.err, re.IGNORECASE), ended.err
    assert "Traceback" not in ended.err
    assert not person.state.exists(), "not even the state directory"
    assert sorted(path.name for path in person.place.iterdir()) == ["home", "trial.yaml"]


def test_says_that_an_agent_is_not_there(person: Person) -> None:
    (person.place / "trial.yaml").write_text(GOOD)
    ended = person.run("apply", person.place / "trial.yaml", "gest", "--backend", "docker")
    assert ended.code == 1
    assert "gest" in ended.err
    assert "guest" in ended.err, "the nearest one is named"
    assert not person.state.exists()


def test_reports_all_that_is_wrong_at_once(person: Person) -> None:
    text = GOOD.replace("egress:", "egres:").replace("bottle: room", "bottle: rom").replace("blue", "[1]")
    (person.place / "trial.yaml").write_text(text)
    ended = person.run("apply", person.place / "trial.yaml")
    assert ended.code == 1
    for place in ("bottles/room/egres", "agents/guest/bottle", "bottles/room/env/COLOUR"):
        assert place in ended.err


def test_takes_the_good_manifest_of_these_cases_as_good(person: Person) -> None:
    (person.place / "trial.yaml").write_text(GOOD)
    assert person.run("plan", person.place / "trial.yaml", "--backend", "fake").code == 0
