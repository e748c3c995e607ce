from __future__ import annotations

from pathlib import Path

import pytest

from cli_shell import Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_resumes_from_the_store_alone(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor")
    shell.apply("--on-failure", "keep")
    kept = set(shell.ids())
    shell.manifest.unlink()
    ended = shell.run("resume", "implementer", "--json")
    assert ended.code == 0
    assert ended.objects[0]["command"] == "resume"
    assert ended.objects[-1]["bottles"][0]["result"] == "resumed"
    assert kept & set(shell.ids())


def test_resumes_all_bottles_that_are_not_torn_down(shell: Shell) -> None:
    shell.run("apply", shell.manifest)
    shell.run("destroy", "reviewer", "--yes")
    ended = shell.run("resume", "--all", "--json")
    assert [row["bottle"] for row in ended.objects[-1]["bottles"]] == ["demo/implementer"]
    assert ended.objects[-1]["bottles"][0]["result"] == "unchanged"


def test_has_nothing_to_resume_in_a_bottle_that_is_torn_down(shell: Shell) -> None:
    shell.apply()
    shell.run("destroy", "implementer", "--yes")
    ended = shell.run("resume", "implementer")
    assert ended.code == 0
    assert ended.err == "demo/implementer: is torn down already: nothing to do\n"


def test_takes_another_policy_for_a_launch_that_fails_again(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor", times=2)
    shell.apply("--on-failure", "keep")
    assert shell.run("resume", "implementer", "--on-failure", "teardown").code == 5
    assert shell.ids() == []


def test_does_nothing_where_all_means_none(shell: Shell) -> None:
    for verb in ("resume", "destroy"):
        ended = shell.run(verb, "--all", "--json")
        assert ended.code == 0
        assert ended.objects[-1]["bottles"] == []
        assert ended.err.startswith("nothing to do: every bottle of this state directory is torn down")
        assert not shell.state.exists()


def test_destroys_without_a_question_what_was_never_ready(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor")
    shell.apply("--on-failure", "keep")
    assert shell.run("destroy", "implementer").code == 0
    assert shell.ids() == []


def test_destroys_all_and_says_torn_down_only_then(shell: Shell) -> None:
    shell.run("apply", shell.manifest)
    shell.goes_wrong("remove", "refuse", "net-inside", times=4)
    ended = shell.run("destroy", "--all", "--yes", "--json")
    assert ended.code == 6
    rows = {row["bottle"]: row for row in ended.objects[-1]["bottles"]}
    failed = [row for row in rows.values() if row["result"] == "failed"]
    assert len(failed) == 2
    assert all(row["state"] != "torn_down" and row["left"] == "leftovers" for row in failed)
    assert "left over: network claude-bottle-net-" in ended.err
    again = shell.run("destroy", "--all", "--yes")
    assert again.code == 0
    assert shell.ids() == []


def test_saves_the_workspace_first(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    work = tmp_path / "work"
    work.write_text("w")
    shell.run("cp", work, "implementer:work")
    ended = shell.run("destroy", "implementer", "--save", tmp_path / "deep" / "saved")
    assert ended.code == 0
    assert (tmp_path / "deep" / "saved" / "work").read_text() == "w"


def test_saves_several_workspaces_side_by_side(shell: Shell, tmp_path: Path) -> None:
    shell.run("apply", shell.manifest)
    (tmp_path / "work").write_text("w")
    for agent in ("implementer", "reviewer"):
        shell.run("cp", tmp_path / "work", f"{agent}:work")
    assert shell.run("destroy", "--all", "--save", tmp_path / "saved").code == 0
    for agent in ("implementer", "reviewer"):
        assert (tmp_path / "saved" / "demo" / agent / "work").read_text() == "w"


def test_saves_over_nothing(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    (tmp_path / "saved").mkdir()
    ended = shell.run("destroy", "implementer", "--save", tmp_path / "saved")
    assert ended.code == 1
    assert f"error: --save: {tmp_path / 'saved'} exists. Name a directory that does not exist yet.\n" in ended.err
    assert shell.ids() != []


def test_keeps_the_bottle_when_its_work_cannot_be_saved(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    ended = shell.run("destroy", "implementer", "--save", tmp_path / "saved")
    assert ended.code == 1, "the simulated workspace has no file"
    assert shell.run("status", "--json").objects[0]["outcome"] == "ready"
