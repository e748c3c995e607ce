from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli_shell import MANIFEST, Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
SSH = f"ssh: [{{host: h.example, user: git, identity_file: ./key, known_host_key: {HOST_KEY}}}]\n    egress:"


@pytest.mark.parametrize(
    ("old", "new", "place", "problem", "hint"),
    [
        ("bottle: dev, prompt", "bottle: dve, prompt", "agents/implementer/bottle", "no bottle `dve`", "`dev`"),
        ("prompt:", "skills: [nope], prompt:", "agents/implementer/skills/0", "`nope` is no directory", "Create"),
        ("egress:", SSH, "bottles/dev/ssh/0/identity_file", "does not exist", "Correct the path"),
        ("COLOUR: blue", 'COLOUR: "${NOT_THERE}"', "bottles/dev/env/COLOUR", "NOT_THERE", ""),
        ("egress:", "egres:", "bottles/dev/egres", "the key `egres` is not known", "Did you mean `egress`?"),
        ("[example.org]", "5", "bottles/dev/egress/allow", "", ""),
        ("name: demo", "name: demo\nname: twice", "name", "", ""),
    ],
)
def test_reports_manifest_errors_and_creates_nothing(  # noqa: PLR0917 - one row a manifest error
    shell: Shell, old: str, new: str, place: str, problem: str, hint: str
) -> None:
    shell.manifest.write_text(MANIFEST.replace(old, new, 1))
    ended = shell.run("apply", shell.manifest)
    assert ended.code == 1
    line = rf"^error: .*demo\.yaml:\d+ {place}: .*{re.escape(problem)}.*{re.escape(hint)}"
    assert re.search(line, ended.err, re.MULTILINE)
    assert "Traceback" not in ended.err
    assert not shell.state.exists()


def test_reports_the_errors_of_all_agents_together(shell: Shell) -> None:
    text = MANIFEST.replace("Do it.,", "Do it., skills: [one],").replace("reviewer: {", "reviewer: {skills: [two], ")
    shell.manifest.write_text(text.replace("blue", '"${GONE}"'))
    err = shell.run("apply", shell.manifest).err
    assert "`one`" in err
    assert "`two`" in err
    assert err.count("GONE") - err.count("Set GONE") <= err.count("error: ")
    assert len([line for line in err.splitlines() if "env/COLOUR" in line]) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("implementor", "error: BOTTLE: there is no bottle `implementor`. Did you mean demo/implementer?\n"),
        ("zzz", "error: BOTTLE: there is no bottle `zzz`. Known are demo/implementer, demo/reviewer.\n"),
        ("demo/", "error: BOTTLE: `demo/` may mean demo/implementer, demo/reviewer. Write it as project/agent.\n"),
    ],
)
def test_names_the_nearest_bottle(shell: Shell, word: str, message: str) -> None:
    ended = shell.run("apply", shell.manifest, word)
    assert (ended.code, ended.err) == (1, message)


def test_says_that_a_manifest_is_not_there(shell: Shell) -> None:
    ended = shell.run("apply", "nowhere.yaml")
    assert ended.code == 1
    assert ended.err.startswith("error: nowhere.yaml")


def test_refuses_a_state_directory_of_another_machine(shell: Shell) -> None:
    shell.apply()
    identity = shell.state / "root.json"
    identity.write_text(json.dumps({**json.loads(identity.read_text()), "machine": "another"}))
    ended = shell.apply()
    assert ended.code == 4
    assert "this state directory was made on another machine" in ended.err
    assert shell.run("audit", "verify").code == 0, "but reading it is fine"
