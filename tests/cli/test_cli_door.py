from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bottle_fsm import __version__
from bottle_fsm.cli.door import VERBS
from bottle_fsm.cli.main import door
from bottle_fsm.cli.reference import cli_page, diagram, states_page
from cli_shell import PROGRAM, Shell

PROJECT = Path(__file__).parents[2]
LIGHT = [["--help"], ["status"], ["status", "--json"], ["audit"], ["audit", "verify"], ["audit", "export"], ["diagram"]]
BUDGET = 220
"""Modules that a light verb may import, Python's own at start-up included."""
COUNT = """
import sys
from bottle_fsm.cli.main import door
try:
    door.main(sys.argv[1:])
except SystemExit as ended:
    print("\\n" + repr(ended.code), *sorted(sys.modules))
"""


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_starts_light_verbs_without_heavy_libraries(shell: Shell, words: list[str]) -> None:
    shell.apply()
    out = subprocess.run(
        [sys.executable, "-c", COUNT, *words], env=shell.env, capture_output=True, text=True, check=True
    ).stdout
    code, *modules = out.splitlines()[-1].split()
    assert code == "0"
    roots = {module.partition(".")[0] for module in modules}
    assert not roots & {"docker", "pydantic", "pydantic_core", "structlog", "requests", "rich", "transitions"}
    ours = [m for m in modules if not m.startswith("coverage")]
    assert len(ours) < BUDGET


def test_shows_help_for_every_verb(shell: Shell) -> None:
    shown = shell.run("--help").out
    for verb, text in VERBS.items():
        assert verb in shown
        ended = shell.run(verb, "--help")
        assert ended.code == 0
        assert ended.out.startswith(f"Usage: bottle-fsm {verb}")
        command = door.get_command(click.Context(door), verb)
        assert command is not None
        assert command.get_short_help_str(limit=200) == text


def test_tells_its_version(shell: Shell) -> None:
    assert shell.run("--version").out == f"bottle-fsm {__version__}\n"


def test_shows_help_and_fails_when_nothing_is_asked(shell: Shell) -> None:
    ended = shell.run()
    assert ended.code == 1
    assert "Verbs:" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aply"], "error: there is no verb 'aply'. Did you mean apply? Try `bottle-fsm --help`.\n"),
        (["xyz"], "error: there is no verb 'xyz'. Verbs are apply, plan, "),
        (["status", "--frob"], "error: No such option '--frob'. Try `bottle-fsm status --help`.\n"),
        (["--frob"], "error: No such option '--frob'. Try `bottle-fsm --help`.\n"),
        (["apply"], "error: Missing argument 'MANIFEST'. Try `bottle-fsm apply --help`.\n"),
        (["apply", "x", "--backend", "k8s"], "'k8s' is not one of 'auto', 'docker', 'local', 'fake'."),
        (["resume"], "error: BOTTLE: no bottle is named. Name one or more, or give --all;"),
        (["destroy", "--all", "x"], "error: BOTTLE: name bottles or give --all, not both."),
        (["audit", "--kind", "frob"], "'frob' is not one of "),
        (["cp", "a", "b"], "error: SRC DST: one side must be BOTTLE:PATH, and only one.\n"),
    ],
)
def test_says_what_is_wrong_with_a_command_line(shell: Shell, words: list[str], message: str) -> None:
    ended = shell.run(*words)
    assert ended.code == 1
    assert message in ended.err
    assert ended.out == ""
    assert not shell.state.exists()


def test_takes_common_options_before_and_after_the_verb(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    elsewhere = tmp_path / "elsewhere"
    assert "demo/implementer" in shell.run("status").out
    assert "No bottles in" in shell.run("--state-dir", elsewhere, "status").err
    assert "No bottles in" in shell.run("status", "--state-dir", elsewhere).err
    assert "demo/implementer" in shell.run("--state-dir", elsewhere, "status", "--state-dir", shell.state).out


def test_prints_the_diagram_of_the_machine_that_runs(shell: Shell) -> None:
    shown = shell.run("diagram").out
    assert shown.startswith("stateDiagram-v2\n")
    assert "    ca_trusted --> provisioned: provision\n" in shown
    assert f"```mermaid\n{shown}```" == diagram()


def test_prints_the_manifests_json_schema(shell: Shell) -> None:
    schema = json.loads(shell.run("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["required"]) == {"version", "bottles", "agents"}


@pytest.mark.parametrize(("name", "page"), [("cli.md", cli_page), ("states.md", states_page)])
def test_keeps_the_generated_pages_equal(name: str, page: object) -> None:
    assert callable(page)
    how = "python -c \"from bottle_fsm.cli.reference import write_pages; write_pages('docs')\""
    assert (PROJECT / "docs" / name).read_text() == page(), f"renew it: {how}"


def test_keeps_the_readmes_picture_equal() -> None:
    text = (PROJECT / "README.md").read_text()
    assert text.count("<!-- diagram -->") == 1
    picture = text.partition("<!-- diagram -->")[2].partition("<!-- /diagram -->")[0]
    assert picture.strip() == diagram()


def test_runs_as_the_installed_program(shell: Shell) -> None:
    ended = shell.finish(shell.spawn("status", "--json"))
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert Path(PROGRAM).exists()
