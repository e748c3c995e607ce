"""What stands in the local world is known, or said to be unknown; it is never taken for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bottle_fsm.backend.local.world import OBJECT, LocalWorld
from bottle_fsm.errors import BackendError, NameTakenError
from local_sandbox.local_bench import Tenant

GUEST = "walls/guest"


@pytest.fixture
def world(tmp_path: Path) -> LocalWorld:
    return LocalWorld(tmp_path / "world")


def made(world: LocalWorld, name: str = "bottle-agent-1") -> Path:
    return world.create("directory", name, {"bottle-fsm.role": "agent"}).directory


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"id": "1", "kind": "directory"}', None])
def test_a_directory_that_says_nothing_of_itself_is_foreign_and_holds_its_name(
    world: LocalWorld, content: str | None
) -> None:
    place = made(world)
    (place / OBJECT).unlink()
    if content is not None:
        (place / OBJECT).write_text(content)
    (found,) = world.objects()
    assert (found.name, dict(found.labels), found.state) == (place.name, {}, "present")
    with pytest.raises(NameTakenError):
        made(world)
    assert place.is_dir()


def test_what_cannot_be_read_is_no_empty_world(world: LocalWorld) -> None:
    place = made(world)
    (place / OBJECT).unlink()
    (place / OBJECT).mkdir()
    with pytest.raises(BackendError, match="cannot be read: Is a directory") as caught:
        world.objects()
    assert caught.value.place == str(place / OBJECT)
    assert "state directory" in str(caught.value.hint)


def test_what_cannot_be_listed_is_no_empty_world(world: LocalWorld) -> None:
    world.folder.write_text("in the way")
    with pytest.raises(BackendError, match="cannot be listed: Not a directory") as caught:
        world.objects()
    assert caught.value.place == str(world.folder)


def test_a_tree_that_cannot_be_removed_is_said_to_be_left(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made(world)
    (found,) = world.objects()
    monkeypatch.setattr("os.defpath", str(world.folder / "bin"))
    (world.folder / "bin").mkdir()
    (world.folder / "bin" / "rm").write_text("#!/bin/sh\necho busy >&2\nexit 1\n")
    (world.folder / "bin" / "find").write_text("#!/bin/sh\n")
    for tool in ("rm", "find"):
        (world.folder / "bin" / tool).chmod(0o755)
    with pytest.raises(BackendError, match="cannot be removed: busy") as caught:
        world.remove(found)
    assert Path(str(caught.value.place)).is_dir()
    assert not place.exists()


def test_starting_what_runs_leaves_it_alone(walls: Tenant) -> None:
    world = LocalWorld(walls.directory("agent").parent)
    state = walls.directory("agent") / "state.json"
    before = (state.read_bytes(), state.stat().st_ino)
    (found,) = (o for o in world.objects() if o.directory == walls.directory("agent"))
    assert world.start(found) == found.init == json.loads(before[0])
    assert (state.read_bytes(), state.stat().st_ino) == before
