"""The handle into a running bottle: commands, files, trees, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bottle_fsm.archive import tree_digest
from bottle_fsm.errors import ProvisionError
from contract.contract_place import Place

BYTES = bytes(range(256)) * 5


def test_passes_exit_codes_on(home: Place) -> None:
    bottle = home.bottle()
    assert bottle.exec(["true"]).code == 0
    assert bottle.exec(["false"]).code == 1


def test_keeps_both_outputs_apart(home: Place) -> None:
    bottle = home.bottle()
    result = bottle.exec(["echo", "two", "words"])
    assert (result.code, result.stdout, result.stderr) == (0, b"two words\n", b"")
    failed = bottle.exec(["cat", "/no/such/file"])
    assert (failed.code, failed.stdout) == (1, b"")
    assert b"/no/such/file" in failed.stderr


@pytest.mark.parametrize("sent", [b"", b"one line", BYTES], ids=["nothing", "text", "bytes"])
def test_passes_standard_input_on_and_ends_it(sent: bytes, home: Place) -> None:
    assert home.bottle().exec(["cat"], stdin=sent).stdout == sent


def test_sets_variables_for_one_command(home: Place) -> None:
    bottle = home.bottle()
    assert bottle.exec(["printenv", "WHO"], env={"WHO": "Ada Lovelace"}).text == "Ada Lovelace"
    assert bottle.exec(["printenv", "WHO"]).code == 1


@pytest.mark.parametrize("owner", ["agent", "root"])
def test_brings_bytes_in_and_reads_them_back(owner: str, home: Place) -> None:
    place = {"agent": "/home/agent/contract.bin", "root": "/etc/contract.bin"}[owner]
    bottle = home.bottle()
    digest = bottle.copy_in(BYTES, place, owner="root" if owner == "root" else "agent")
    assert digest == hashlib.sha256(BYTES).hexdigest()
    assert bottle.read_file(place) == BYTES
    assert bottle.copy_in(b"other", place, owner="root" if owner == "root" else "agent") != digest
    assert bottle.read_file(place) == b"other"


def test_takes_a_host_file_both_ways_with_its_mode(home: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BYTES)
    bottle = home.bottle()
    assert bottle.copy_in(source, "/home/agent/tool", mode=0o750) == hashlib.sha256(BYTES).hexdigest()
    bottle.copy_out("/home/agent/tool", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == BYTES
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o750


def test_takes_a_tree_both_ways_with_modes_and_links(home: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "deep" / "er" / "data").write_bytes(BYTES)
    (tree / "deep" / "er" / "data").chmod(0o600)
    (tree / "deep" / "link").symlink_to("../run.sh")
    bottle = home.bottle()
    assert bottle.copy_in(tree, "/home/agent/tree") == tree_digest(tree)
    bottle.copy_out("/home/agent/tree", tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)
    assert (tmp_path / "back" / "deep" / "link").readlink() == Path("../run.sh")
    assert bottle.read_file("/home/agent/tree/deep/link") == b"#!/bin/sh\n"


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "deep/../../outside"])
def test_refuses_a_link_that_leaves_the_tree_and_brings_nothing(target: str, home: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "a-file").write_text("first\n")
    (tmp_path / "outside").write_text("not yours\n")
    (tree / "way-out").symlink_to(target)
    bottle = home.bottle()
    with pytest.raises(ProvisionError, match="leaves the tree"):
        bottle.copy_in(tree, "/home/agent/refused")
    with pytest.raises(ProvisionError):
        bottle.read_file("/home/agent/refused/a-file")


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a/"])
def test_refuses_a_path_that_is_not_plain(path: str, home: Place, tmp_path: Path) -> None:
    bottle = home.bottle()
    with pytest.raises(ProvisionError, match="no plain absolute path"):
        bottle.copy_in(b"", path)
    with pytest.raises(ProvisionError, match="no plain absolute path"):
        bottle.copy_out(path, tmp_path / "back")
    with pytest.raises(ProvisionError, match="no plain absolute path"):
        bottle.read_file(path)


def test_says_that_a_file_is_missing(home: Place, tmp_path: Path) -> None:
    bottle = home.bottle()
    with pytest.raises(ProvisionError):
        bottle.read_file("/home/agent/nothing-here")
    with pytest.raises(ProvisionError):
        bottle.copy_out("/home/agent/nothing-here", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_writes_over_nothing_on_the_host(home: Place, tmp_path: Path) -> None:
    bottle = home.bottle()
    bottle.copy_in(b"inside", "/home/agent/file")
    (tmp_path / "back").write_text("the user's own")
    with pytest.raises(ProvisionError, match="exists already"):
        bottle.copy_out("/home/agent/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "the user's own"
