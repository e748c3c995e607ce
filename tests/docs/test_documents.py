from __future__ import annotations

from pathlib import Path

import click
import pytest

from bottle_fsm.cli.app import common_options, log_options
from bottle_fsm.cli.door import VERBS
from bottle_fsm.cli.main import door
from docs.documents import PROJECT, anchors, code_paths, commands, documents, links

DOCUMENTS = [pytest.param(document, id=str(document.relative_to(PROJECT))) for document in documents()]
HAND_WRITTEN = ("README.md", "CHANGELOG.md", "docs/architecture.md", "docs/threat-model.md", "docs/operations.md")
GROUP_OPTIONS = {name for option in (*common_options(), *log_options()) for name in option.opts}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_what_is_there(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(PROJECT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_files_that_are_there(document: Path) -> None:
    for path in code_paths(document):
        assert (PROJECT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_verbs_and_options_that_the_program_has(document: Path) -> None:
    for words in commands(document):
        _check(words)


def _check(words: list[str]) -> None:
    """Walk a command line as the door would, without running it."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        assert option in {*GROUP_OPTIONS, "--help", "--version"}, words
        rest = rest[1:] if option in {"--state-dir", "--log-file", "--log"} else rest
    if not rest:
        return
    verb = rest.pop(0)
    if verb == "VERB":
        return
    assert verb in VERBS, words
    command = door.get_command(click.Context(door), verb)
    assert command is not None
    if isinstance(command, click.Group):
        command = command.commands[rest.pop(0) if rest and rest[0] in command.commands else "show"]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if word == "--":
            return
        if word.startswith("-"):
            assert word.split("=")[0] in {*known, "--help"}, words


@pytest.mark.parametrize(
    "words",
    [
        ["aply", "m.yaml"],
        ["apply", "m.yaml", "--force"],
        ["--yes", "apply"],
        ["audit", "verify", "--kind", "done"],
        ["destroy", "--al"],
    ],
)
def test_notices_a_command_that_the_program_does_not_have(words: list[str]) -> None:
    with pytest.raises(AssertionError):
        _check(words)


def test_finds_the_commands_of_the_readme() -> None:
    found = [words[0] for words in commands(PROJECT / "README.md")]
    assert {"apply", "plan", "destroy", "logs"} <= set(found)


def test_lists_every_page_in_the_index() -> None:
    index = PROJECT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page for page in index.parent.glob("*.md") if page != index}
    assert pages <= linked


def test_lists_every_decision_in_its_index() -> None:
    index = PROJECT / "docs" / "decisions" / "README.md"
    linked = {(index.parent / link).resolve() for link in links(index)}
    assert linked >= set(index.parent.glob("0*.md"))


def test_numbers_each_decision_once_and_titles_it_with_its_number() -> None:
    pages = sorted((PROJECT / "docs" / "decisions").glob("0*.md"))
    assert len({page.name[:4] for page in pages}) == len(pages)
    for page in pages:
        assert page.read_text().startswith(f"# {page.name[:4]} "), page.name


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_keeps_lines_readable_in_a_terminal(name: str) -> None:
    prose = [
        line for line in (PROJECT / name).read_text().splitlines() if not line.startswith(("|", "hello/", "error:"))
    ]
    assert max(len(line) for line in prose) <= 120
