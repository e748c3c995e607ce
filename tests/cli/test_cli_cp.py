from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.backend.fake.bottle import FakeBottle
from cli_shell import Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


def test_copies_files_in_and_out(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_bytes(b"\x00hello")
    assert shell.run("cp", source, "implementer:/tmp/a").code == 0
    assert shell.run("cp", "demo/implementer:/tmp/a", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == b"\x00hello"


def test_starts_relative_paths_from_the_workspace(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_text("x")
    shell.run("cp", source, "implementer:sub/a")
    shell.run("cp", source, "implementer:")
    shell.run("cp", source, "implementer:into/")
    assert shell.run("cp", "implementer:/workspace/sub/a", tmp_path / "one").code == 0
    assert shell.run("cp", "implementer:note.txt", tmp_path / "two").code == 0
    assert shell.run("cp", "implementer:into/note.txt", tmp_path / "three").code == 0


def test_copies_trees_and_their_content(shell: Shell, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("x")
    shell.run("cp", tree, "implementer:/opt/")
    shell.run("cp", f"{tree}/.", "implementer:/srv/content/")
    shell.run("cp", "implementer:/opt/tree", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "file").read_text() == "x"
    assert shell.run("cp", "implementer:/srv/content/deep/file", tmp_path / "file").code == 0


def test_copies_into_a_directory_that_is_there(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bottle_fsm.bottle import ExecResult  # noqa: PLC0415 - this test alone pretends a directory

    monkeypatch.setattr(FakeBottle, "exec", lambda *_args, **_more: ExecResult(0, b"directory\n", b""))
    (tmp_path / "note.txt").write_text("x")
    shell.run("cp", tmp_path / "note.txt", "implementer:/srv")
    assert shell.run("cp", "implementer:/srv/note.txt", tmp_path / "host").code == 0
    (tmp_path / "place").mkdir()
    assert shell.run("cp", "implementer:/srv/note.txt", tmp_path / "place").code == 0
    assert (tmp_path / "place" / "note.txt").read_text() == "x"


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_overwrites_nothing_on_the_host_unless_forced(shell: Shell, tmp_path: Path, kind: str) -> None:
    (tmp_path / "new").write_text("new")
    shell.run("cp", tmp_path / "new", "implementer:/tmp/old")
    place = tmp_path / "there"
    place.mkdir()
    old = place / "old"
    if kind == "file":
        old.write_text("old")
    elif kind == "directory":
        (old / "old").mkdir(parents=True)
        place = old
        old = old / "old"
    else:
        old.symlink_to("nowhere")
    ended = shell.run("cp", "implementer:/tmp/old", place)
    assert ended.code == 1
    assert f"error: {old}: exists on this host. --force replaces it.\n" in ended.err
    assert shell.run("cp", "--force", "implementer:/tmp/old", place).code == 0
    assert old.read_text() == "new"
    assert [p.name for p in place.iterdir()] == ["old"], "nothing temporary is left"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["implementer:/a", "reviewer:/b"], "one side must be BOTTLE:PATH, and only one"),
        (["./a:b", "c"], "one side must be BOTTLE:PATH, and only one"),
        (["nothing-here", "implementer:/b"], "error: nothing-here: there is no such file or directory.\n"),
        (["implementer:/nothing", "{place}/x"], "there is no /nothing"),
        (["implementer:/nothing", "{place}/no/x"], "no: there is no such directory.\n"),
    ],
)
def test_says_what_cannot_be_copied(shell: Shell, tmp_path: Path, words: list[str], message: str) -> None:
    ended = shell.run("cp", *(word.format(place=tmp_path) for word in words))
    assert ended.code == 1
    assert message in ended.err
