from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.documents import PROJECT, documents, run, run_blocks, same_shape, steps_of

BLOCKS = [(document, block) for document in documents() for block in run_blocks(document)]


@pytest.mark.parametrize(("document", "block"), BLOCKS, ids=lambda value: getattr(value, "stem", "block"))
def test_shows_what_its_commands_really_print(document: Path, block: str, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "manifests", tmp_path / "manifests")
    steps = steps_of(block)
    for step, (code, lines) in zip(steps, run(steps, tmp_path), strict=True):
        assert code == step.code, f"{document.name}: {step.command}: {lines}"
        assert same_shape(step.shown, lines), f"{document.name}: {step.command} printed:\n" + "\n".join(lines)


def test_has_a_readme_block_with_every_daily_verb_that_a_simulation_can_show() -> None:
    typed = [step.command for block in run_blocks(PROJECT / "README.md") for step in steps_of(block)]
    verbs = {command.split()[1] for command in typed if command.startswith("bottle-fsm ")}
    assert verbs >= {"apply", "plan", "status", "exec", "attach", "resume", "audit", "destroy"}


def test_is_a_short_readme() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 160


# -- the runner itself ---------------------------------------------------------------------------------------------


def test_reads_commands_exit_codes_and_outputs() -> None:
    first, second = steps_of("$ echo a  # exit 3: why\na\nb\n$ true\n")
    assert (first.command, first.code, first.shown) == ("echo a ", 3, ("a", "b"))
    assert (second.command, second.code, second.shown) == ("true", 0, ())


def test_runs_all_commands_in_one_shell_and_sees_both_streams(tmp_path: Path) -> None:
    steps = steps_of("$ export WORD=blue\n$ echo $WORD; echo bad >&2; (exit 3)\n$ cd /\n$ pwd\n")
    assert run(steps, tmp_path) == [(0, []), (3, ["blue", "bad"]), (0, []), (0, ["/"])]


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (("a", "…", "d"), ["a", "b", "c", "d"]),
        (("a", "…", "d"), ["a", "d"]),
        (("it … done",), ["it is done"]),
        (("took 0.01 s",), ["took 12.5 s"]),
        (("at 2026-11-24T06:20:03.692003Z",), ["at 2031-01-02T03:04:05.000006Z"]),
        (("the chain holds: 42 events",), ["the chain holds: 7 events"]),
        (("launch 43852fae7831",), ["launch 0123456789ab"]),
        (("a     b",), ["a  b"]),
        ((), []),
    ],
)
def test_takes_an_output_of_the_same_shape(expected: tuple[str, ...], found: list[str]) -> None:
    assert same_shape(expected, found)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (("a",), []),
        ((), ["a"]),
        (("a",), ["a", "b"]),
        (("a", "…", "d"), ["a", "b", "c"]),
        (("state ready",), ["state failed"]),
        (("it … done",), ["it is not"]),
        (("launch 43852fae7831",), ["launch nothing"]),
        (("a.c",), ["abc"]),
    ],
)
def test_refuses_an_output_of_another_shape(expected: tuple[str, ...], found: list[str]) -> None:
    assert not same_shape(expected, found)
