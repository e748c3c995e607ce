"""The handle into a simulated bottle: a few commands, and files with their modes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bottle_fsm.archive import tree_digest
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.backend.fake.world import FakeWorld
from bottle_fsm.errors import BackendError, ProvisionError


@pytest.fixture
def world(tmp_path: Path) -> FakeWorld:
    return FakeWorld(tmp_path / "world.json")


@pytest.fixture
def agent(world: FakeWorld) -> str:
    made = world.create("container", "agent", {})
    world.start(made)
    return made


@pytest.fixture
def bottle(world: FakeWorld, agent: str) -> FakeBottle:
    return FakeBottle(world, agent, "demo/one")


def test_simulates_a_few_commands(bottle: FakeBottle) -> None:
    bottle.copy_in(b"one", "/a")
    bottle.copy_in(b"two", "/b")
    assert bottle.exec(["true"]).code == 0
    assert bottle.exec(["false"]).code == 1
    assert bottle.exec(["exit", "7"]).code == 7
    assert bottle.exec(["echo", "a", "b"]).stdout == b"a b\n"
    assert bottle.exec(["cat"], stdin=b"sent").stdout == b"sent"
    assert bottle.exec(["cat"]).stdout == b""
    assert bottle.exec(["cat", "/a", "/b"]).stdout == b"onetwo"
    assert bottle.exec(["printenv", "A"], env={"A": "1"}).stdout == b"1\n"


def test_fails_as_the_commands_do(bottle: FakeBottle) -> None:
    missing = bottle.exec(["cat", "/missing"])
    assert (missing.code, missing.stdout) == (1, b"")
    assert missing.stderr == b"cat: there is no file /missing\n"
    assert bottle.exec(["printenv", "A"]).code == 1


def test_names_any_other_command_and_who_would_run_it(bottle: FakeBottle) -> None:
    result = bottle.exec(["uname", "-a"], user="root")
    assert (result.code, result.text) == (0, "simulated as root: uname -a")
    assert bottle.interact(["exit", "3"], tty=True) == 3


def test_keeps_mode_and_owner_of_a_file(bottle: FakeBottle, world: FakeWorld, agent: str) -> None:
    bottle.copy_in(b"", "/etc/empty", mode=0o600, owner="root")
    assert world.file(agent, "/etc/empty") == f"{stat.S_IFREG | 0o600:o} root "
    assert bottle.read_file("/etc/empty") == b""


def test_reads_a_file_that_a_test_put_there_by_hand(bottle: FakeBottle, world: FakeWorld, agent: str) -> None:
    world.put(agent, "/by-hand", "644 root AA==")
    assert bottle.read_file("/by-hand") == b"\0"


def test_follows_links_and_not_for_ever(bottle: FakeBottle, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "file").write_text("content")
    (tree / "deep" / "link").symlink_to("../file")
    (tree / "loop").symlink_to("loop")
    assert bottle.copy_in(tree, "/tree") == tree_digest(tree)
    assert bottle.read_file("/tree/deep/link") == b"content"
    for path in ("/tree/loop", "/tree/deep"):
        with pytest.raises(ProvisionError, match="is no file"):
            bottle.read_file(path)


def test_brings_a_tree_back_as_it_was(bottle: FakeBottle, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    (tree / "link").symlink_to("run")
    bottle.copy_in(tree, "/tree")
    bottle.copy_out("/tree", tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)


def test_keeps_nothing_of_a_refused_tree(bottle: FakeBottle, world: FakeWorld, agent: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a-file").write_text("first")
    (tree / "way-out").symlink_to("/etc/hostname")
    with pytest.raises(ProvisionError, match="leaves the tree"):
        bottle.copy_in(tree, "/tree")
    assert world.paths(agent) == []


def test_says_that_there_is_nothing_to_bring_back(bottle: FakeBottle, tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="there is no /nothing"):
        bottle.copy_out("/nothing", tmp_path / "back")


def test_does_nothing_once_it_is_stopped(bottle: FakeBottle, world: FakeWorld, agent: str) -> None:
    world.stop(agent)
    with pytest.raises(BackendError, match="does not run"):
        bottle.exec(["true"])
    with pytest.raises(BackendError, match="does not run"):
        bottle.copy_in(b"", "/file")
