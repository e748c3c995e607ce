from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bottle_fsm.naming import Labels
from bottle_fsm.store.lock import BottleLock
from cli_shell import Shell

BOTTLE = "demo/implementer"


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def root_id(shell: Shell) -> str:
    return str(json.loads((shell.state / "root.json").read_text())["root"])


def plant(shell: Shell, name: str, *, root: str = "", launch: str = "", epoch: int = 1) -> None:
    labels = Labels(root or root_id(shell), BOTTLE, launch, "guard", "create guard", "s", epoch)
    shell.world.create("container", name, labels.as_dict())


def leave(shell: Shell, *names: str) -> None:
    """Launch, take away, and leave objects of that launch behind."""
    shell.apply()
    shell.run("destroy", "implementer", "--yes")
    launch = str(shell.run("status", "--json").objects[0]["launch"])
    for name in names:
        plant(shell, name, launch=launch)


def left(shell: Shell) -> list[str]:
    return [found.name for found in shell.world.objects()]


def test_has_nothing_to_collect_and_makes_no_directory(shell: Shell) -> None:
    ended = shell.run("gc")
    assert ended.code == 0
    assert "nothing to collect: every object of this state directory belongs to a live bottle" in ended.err
    assert not shell.state.exists()


def test_leaves_a_live_bottle_alone(shell: Shell) -> None:
    shell.apply()
    before = shell.ids()
    assert shell.run("gc", "--yes").code == 0
    assert shell.ids() == before


def test_shows_and_refuses_without_a_yes(shell: Shell) -> None:
    leave(shell, "late-guard")
    ended = shell.run("gc")
    assert ended.code == 4
    assert re.search(rf"^{BOTTLE}  container late-guard: its launch \w+ was torn down$", ended.out, re.MULTILINE)
    assert f"error: gc: removes 1 object of {BOTTLE}. Give --yes to agree.\n" in ended.err
    assert left(shell) == ["late-guard"]


def test_removes_with_a_yes(shell: Shell) -> None:
    leave(shell, "late-guard", "later-guard")
    ended = shell.run("gc", "--yes")
    assert ended.code == 0
    assert "2 removed, 0 left, 0 undecided" in ended.err
    assert left(shell) == []
    assert shell.run("audit", "verify").code == 0


@pytest.mark.parametrize(("answer", "code", "there"), [("y", 0, []), ("n", 4, ["late-guard"])])
def test_asks_on_a_terminal(answer: str, code: int, there: list[str], shell: Shell) -> None:
    leave(shell, "late-guard")
    ended = shell.on_terminal("gc", answers={"[y/N]": answer})
    assert ended.code == code
    assert f"gc: removes 1 object of {BOTTLE}. Go on? [y/N]" in ended.out
    assert left(shell) == there


def test_tells_programs_everything(shell: Shell) -> None:
    leave(shell, "late-guard")
    plant(shell, "theirs", root="another", launch="x")
    ended = shell.run("gc", "--yes", "--all-roots", "--json")
    assert ended.code == 0
    assert (ended.objects[0]["type"], ended.objects[0]["command"]) == ("header", "gc")
    rows = {row["type"]: row for row in ended.objects}
    assert rows["stray"]["resource"]["name"] == "late-guard"
    assert "was torn down" in rows["stray"]["cause"]
    assert (rows["other_root"]["root"], rows["other_root"]["resource"]["name"]) == ("another", "theirs")
    assert rows["event"]["kind"] == "step_done"
    last = ended.objects[-1]
    assert (last["outcome"], last["exit_code"]) == ("ok", 0)
    assert [row["resource"]["name"] for row in last["removed"]] == ["late-guard"]
    assert left(shell) == ["theirs"]


def test_lists_other_state_directories_and_removes_none(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    plant(shell, "theirs", root="another-root", launch="x")
    assert "theirs" not in shell.run("gc", "--yes").out
    ended = shell.run("gc", "--yes", "--all-roots")
    assert ended.code == 0
    assert f"{BOTTLE}  container theirs: of the state directory another-root; not touched\n" in ended.out
    assert "theirs" in left(shell)
    (tmp_path / "new").mkdir()
    shutil.copy(shell.state / "fake-world.json", tmp_path / "new")
    ended = shell.run("gc", "--state-dir", tmp_path / "new", "--all-roots")
    assert ended.code == 0, "a directory without a journal has no garbage, and can list"
    assert len(ended.out.splitlines()) == 7


def test_leaves_to_a_person_what_is_newer_than_the_journal(shell: Shell) -> None:
    leave(shell)
    plant(shell, "newer", launch="unknown", epoch=99)
    ended = shell.run("gc", "--yes")
    assert ended.code == 4
    assert "is unknown to this journal, and newer (epoch 99" in ended.out
    assert f"error: {BOTTLE}: the journal may be older than these objects. Use the newer state directory" in ended.err
    assert left(shell) == ["newer"]


def test_skips_a_bottle_that_is_held(shell: Shell) -> None:
    leave(shell, "late-guard")
    with BottleLock(shell.state, BOTTLE, command="apply"):
        ended = shell.run("gc", "--yes", "--json")
    assert ended.code == 3
    assert (ended.objects[-1]["outcome"], ended.objects[-1]["skipped"]) == ("lock_held", [BOTTLE])
    assert f"error: {BOTTLE}: held by pid" in ended.err
    assert left(shell) == ["late-guard"]


def test_names_leftovers(shell: Shell) -> None:
    leave(shell, "late-guard")
    shell.goes_wrong("remove", "refuse", times=1)
    ended = shell.run("gc", "--yes")
    assert ended.code == 6
    assert "the engine refuses to remove guard" in ended.err
    assert "0 removed, 1 left, 0 undecided" in ended.err
    assert shell.run("gc", "--yes").code == 0
    assert left(shell) == []
