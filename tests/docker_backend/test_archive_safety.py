"""Archives in both directions: deterministic when packed, harmless when unpacked."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bottle_fsm.archive import Member, pack_bytes, pack_file, pack_members, pack_tree, stays_inside, tree_digest, unpack
from bottle_fsm.errors import ProvisionError

names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
plain = names.filter(lambda name: name not in {".", ".."})
trees = st.dictionaries(plain, st.binary(max_size=64), max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=trees, order=st.randoms(use_true_random=False))
def test_packs_equal_trees_to_equal_bytes_and_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes], order: object
) -> None:
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    items = list(content.items())
    for root, entries in ((first, items), (second, list(reversed(items)))):
        for name, data in entries:
            (root / name).write_bytes(data)
        root.chmod(0o755)
    assert tree_digest(first) == tree_digest(second)
    packed = pack_tree(first)
    with packed.stream:
        out = tmp_path_factory.mktemp("out") / "tree"
        unpack(_below(packed.stream.read(), "top"), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content
    assert tree_digest(out) == packed.digest


def _below(tar: bytes, top: str) -> io.BytesIO:
    """Return the same archive with another top entry, as `tar -C parent name` gives it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as source, tarfile.open(fileobj=target, mode="w") as out:
        for member in source:
            member.name = f"{top}/{member.name.removeprefix('.').lstrip('/')}".rstrip("/")
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
    target.seek(0)
    return target


def test_packs_bytes_and_files_alike(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    packed = pack_file(path)
    with packed.stream:
        assert packed.stream.read() == b"content"
    assert (packed.digest, packed.length) == (pack_bytes(b"content").digest, 7)


def test_keeps_modes_and_inner_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "run").write_text("x")
    (root / "sub" / "run").chmod(0o6755)
    (root / "up").symlink_to("sub/run")
    (root / "sub" / "back").symlink_to("../up")
    (root / "loop").symlink_to("loop")
    with pack_tree(root).stream as stream, tarfile.open(fileobj=stream) as tar:
        found = {member.name: member for member in tar}
    assert found["./sub/run"].mode == 0o755
    assert found["./sub/back"].linkname == "../up"
    assert {member.uid for member in found.values()} == {0}


@pytest.mark.parametrize("text", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_refuses_a_link_that_leaves_the_tree(tmp_path: Path, text: str) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(text)
    with pytest.raises(ProvisionError, match="leaves the tree"):
        pack_tree(tmp_path / "root")


def test_refuses_a_link_that_leaves_by_way_of_another(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "deep").symlink_to("a/b")
    (root / "a" / "b" / "x").symlink_to("../../a/../../outside")
    with pytest.raises(ProvisionError, match="leaves the tree"):
        pack_tree(root)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    os.mkfifo(tmp_path / "root" / "pipe")
    with pytest.raises(ProvisionError, match="neither file"):
        pack_tree(tmp_path / "root")
    (tmp_path / "root" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "root" / "s"))
        with pytest.raises(ProvisionError, match="neither file"):
            pack_tree(tmp_path / "root")


def test_packs_members_with_owner_and_mode() -> None:
    content = pack_members({"etc/x": Member(b"data", 0o400, 7, 8), "var/d": Member(None, 0o700, 9, 9)})
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {m.name: (m.isdir(), m.mode, m.uid, m.gid, m.size) for m in tar}
    assert found == {"etc/x": (False, 0o400, 7, 8, 4), "var/d": (True, 0o700, 9, 9, 0)}
    assert content == pack_members({"var/d": Member(None, 0o700, 9, 9), "etc/x": Member(b"data", 0o400, 7, 8)})


@given(st.lists(st.sampled_from(["a", "b", "..", "."]), max_size=5), st.lists(st.sampled_from(["a", ".."]), max_size=6))
def test_knows_which_links_stay(folder: list[str], link: list[str]) -> None:
    real = [part for part in folder if part not in {".", ".."}]
    text = "/".join(link)
    if not text:
        return
    depth, least = len(real), len(real)
    for part in link:
        depth += -1 if part == ".." else 1
        least = min(least, depth)
    assert stays_inside("/".join(real) or ".", text) == (least >= 0)
    assert not stays_inside("/".join(real) or ".", f"/{text}")


def _tar(*members: tarfile.TarInfo, content: bytes = b"") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    buffer.seek(0)
    return buffer


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    return info


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "top/../../x", ".."])
def test_refuses_names_that_climb(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProvisionError, match="unsafe name"):
        unpack(_tar(_info(name), content=b"evil"), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_refuses_devices(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ProvisionError, match="device"):
        unpack(_tar(_info("top/dev", kind)), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == []


def test_follows_no_link_while_it_unpacks(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    hostile = _tar(_info("top/d", tarfile.SYMTYPE, str(victim)), _info("top/d/file"), content=b"evil")
    with pytest.raises((ProvisionError, OSError)):
        unpack(hostile, tmp_path / "out")
    assert sorted(victim.iterdir()) == []


def test_writes_a_leaving_link_as_text(tmp_path: Path) -> None:
    links = (_info("top/out", tarfile.SYMTYPE, "../../x"), _info("top/in", tarfile.SYMTYPE, "y"))
    unpack(_tar(_info("top", tarfile.DIRTYPE), *links, _info("top/pipe", tarfile.FIFOTYPE)), tmp_path / "out")
    assert (tmp_path / "out" / "out").read_text() == "../../x"
    assert str((tmp_path / "out" / "in").readlink()) == "y"
    unpack(_tar(_info("link", tarfile.SYMTYPE, "y")), tmp_path / "single")
    assert (tmp_path / "single").read_text() == "y"


def test_copies_hard_links_and_refuses_odd_ones(tmp_path: Path) -> None:
    unpack(_tar(_info("top/a"), _info("top/b", tarfile.LNKTYPE, "top/a"), content=b"same"), tmp_path / "out")
    assert (tmp_path / "out" / "b").read_bytes() == b"same"
    odd = _tar(_info("top/d", tarfile.DIRTYPE), _info("top/b", tarfile.LNKTYPE, "top/d"))
    with pytest.raises(ProvisionError, match="hard link"):
        unpack(odd, tmp_path / "odd")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100])
def test_refuses_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ProvisionError, match=r"no archive|nothing came out"):
        unpack(io.BytesIO(content), tmp_path / "out")


def test_refuses_a_target_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="exists already"):
        unpack(_tar(_info("top")), tmp_path)
