"""The state root: made once, private, bound to its machine."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from bottle_fsm.errors import DecisionNeededError, StoreError
from bottle_fsm.store import root as root_module
from bottle_fsm.store.root import default_directory, open_root, this_machine


def test_is_private_and_keeps_its_identity(tmp_path: Path) -> None:
    first = open_root(tmp_path / "s")
    again = open_root(tmp_path / "s")
    assert first.root_id == again.root_id
    assert first.key == again.key
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    for name in ("root.key", "root.json"):
        assert stat.S_IMODE((tmp_path / "s" / name).stat().st_mode) == 0o600
    assert not list((tmp_path / "s").glob(".root*"))


def test_makes_other_roots_different(tmp_path: Path) -> None:
    one, two = open_root(tmp_path / "a"), open_root(tmp_path / "b")
    assert one.root_id != two.root_id
    assert one.token("L", "scan") != two.token("L", "scan")


def test_derives_the_same_token_again_and_another_for_another_purpose(tmp_path: Path) -> None:
    root = open_root(tmp_path / "s")
    assert root.token("L", "scan") == root.token("L", "scan")
    assert root.token("L", "scan") != root.token("L", "proxy")
    assert root.token("L", "scan") != root.token("M", "scan")
    assert len(root.token("L", "scan")) == 64


def test_never_shows_its_key(tmp_path: Path) -> None:
    root = open_root(tmp_path / "s")
    assert root.key.reveal() not in repr(root)


def test_closes_a_directory_that_others_could_read(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    open_root(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_refuses_a_copy_from_another_machine(tmp_path: Path) -> None:
    open_root(tmp_path / "s", machine_id="there")
    with pytest.raises(DecisionNeededError, match="another machine") as caught:
        open_root(tmp_path / "s", machine_id="here")
    assert caught.value.exit_code == 4


def test_refuses_a_damaged_identity(tmp_path: Path) -> None:
    open_root(tmp_path / "s")
    (tmp_path / "s" / "root.json").write_text("{}")
    with pytest.raises(StoreError, match=r"cannot be used.*--state-dir"):
        open_root(tmp_path / "s")


def test_refuses_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        open_root(tmp_path / "s")


def test_refuses_somebody_elses_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    (tmp_path / "s").mkdir()
    with pytest.raises(StoreError, match="belongs to uid"):
        open_root(tmp_path / "s")


def test_refuses_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(root_module, "_file_system", lambda path: real(path, mounts))
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        open_root(tmp_path / "s")


real = root_module._file_system


def test_reads_the_file_system_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    spaced = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nx {spaced} tmpfs rw 0 0\ny {spaced}-not cifs rw 0 0\n")
    assert real(tmp_path / "deeper", mounts) == "tmpfs"
    assert real(Path("/"), mounts) == "ext4"
    assert real(tmp_path, tmp_path / "none") == ""


def test_keeps_the_winner_when_two_processes_begin_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    root_module._create_once(path, "first")
    path.rename(tmp_path / "g")
    real_exists = Path.exists
    seen: list[int] = []

    def late(self: Path) -> bool:
        if self == path and not seen:
            seen.append(1)
            path.write_text("the other's")
            return False
        return real_exists(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", late)
        root_module._create_once(path, "ours")
    assert path.read_text() == "the other's"
    assert list(tmp_path.glob(".f*")) == []


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"BOTTLE_FSM_STATE_DIR": "/x/y"}, "/x/y"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/bottle-fsm"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/state/bottle-fsm"),
    ],
)
def test_is_found_by_variable_then_xdg_then_home(environ: dict[str, str], expected: str) -> None:
    assert default_directory(environ) == Path(expected)


def test_names_the_machine_without_giving_its_id_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    monkeypatch.setattr(root_module, "_MACHINE_ID", tmp_path / "machine-id")
    named = this_machine()
    assert "0123456789abcdef" not in named
    monkeypatch.setattr(root_module, "_MACHINE_ID", tmp_path / "none")
    assert this_machine() not in {"", named}


def test_stores_the_identity_as_json(tmp_path: Path) -> None:
    root = open_root(tmp_path / "s", machine_id="m")
    assert json.loads((tmp_path / "s" / "root.json").read_text()) == {"root": root.root_id, "machine": "m"}
