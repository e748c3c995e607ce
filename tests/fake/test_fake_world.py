"""The simulated engine: what it answers, and how it goes wrong when told to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bottle_fsm.backend.fake.world import FakeObject, FakeWorld, Fault
from bottle_fsm.errors import BackendError, EngineUnavailableError, NameTakenError, TransientError

GUARD = {"bottle-fsm.role": "guard"}


@pytest.fixture
def world(tmp_path: Path) -> FakeWorld:
    return FakeWorld(tmp_path / "deep" / "world.json")


def only(world: FakeWorld) -> FakeObject:
    (found,) = world.objects()
    return found


def test_keeps_its_identity_and_objects_for_other_processes(world: FakeWorld, tmp_path: Path) -> None:
    made = world.create("container", "one", GUARD)
    other = FakeWorld(tmp_path / "deep" / "world.json")
    assert other.identity() == world.identity()
    assert [o.id for o in other.objects()] == [made]
    assert (tmp_path / "deep" / "world.json").stat().st_mode & 0o777 == 0o600


def test_refuses_a_second_container_of_a_name_but_no_second_network(world: FakeWorld) -> None:
    world.create("container", "one", {})
    with pytest.raises(NameTakenError, match="one is in use"):
        world.create("container", "one", {})
    assert world.create("network", "two", {}) != world.create("network", "two", {})
    assert world.create("network", "one", {})


def test_takes_a_container_from_created_to_running_to_exited(world: FakeWorld) -> None:
    made = world.create("container", "one", {})
    assert only(world).state == "created"
    world.start(made, healthy=True)
    assert (only(world).state, only(world).healthy) == ("running", True)
    world.stop(made)
    assert (only(world).state, only(world).healthy, only(world).exit_code) == ("exited", None, 137)


def test_has_networks_that_are_just_there(world: FakeWorld) -> None:
    world.create("network", "net", {})
    assert only(world).state == "present"


def test_loses_what_is_on_tmpfs_when_a_container_stops(world: FakeWorld) -> None:
    made = world.create("container", "one", {})
    world.start(made)
    world.put(made, "/run/bottle/env", "secret")
    world.put(made, "/workspace/work", "kept")
    world.stop(made)
    assert world.file(made, "/run/bottle/env") is None
    assert world.paths(made) == ["/workspace/work"]
    world.start(made)
    world.put(made, "/run/bottle/env", "again")
    world.restart()
    assert world.paths(made) == ["/workspace/work"]


def test_restarts_with_everything_stopped(world: FakeWorld) -> None:
    running, created = world.create("container", "one", {}), world.create("container", "two", {})
    world.start(running)
    before = world.identity()
    world.restart()
    assert {o.id: o.state for o in world.objects()} == {running: "exited", created: "created"}
    assert world.identity() == before
    world.restart(identity=True)
    assert world.identity() != before


def test_removes_once_and_is_content_the_second_time(world: FakeWorld) -> None:
    made = world.create("container", "one", {})
    world.remove(made)
    world.remove(made)
    assert world.objects() == []


def test_keeps_a_network_that_has_members(world: FakeWorld) -> None:
    network = world.create("network", "net", {})
    member = world.create("container", "one", {}, networks=[network])
    with pytest.raises(BackendError, match="has members: one"):
        world.remove(network)
    world.remove(member)
    world.remove(network)
    assert world.objects() == []


def test_knows_no_file_of_an_object_that_is_gone(world: FakeWorld) -> None:
    assert world.file("nobody", "/file") is None
    assert world.paths("nobody") == []
    world.put("nobody", "/file", "text")
    world.start("nobody")
    assert world.objects() == []


@pytest.mark.parametrize("mishap", ["transient", "refuse"])
def test_does_nothing_when_it_says_that_it_failed(mishap: str, world: FakeWorld) -> None:
    world.inject(Fault("create", "transient" if mishap == "transient" else "refuse", role="guard"))
    with pytest.raises(BackendError):
        world.create("container", "one", GUARD)
    assert world.objects() == []
    assert world.create("container", "one", GUARD)  # once was all that was asked


def test_does_it_and_loses_the_reply(world: FakeWorld) -> None:
    world.inject(Fault("create", "lose_reply"))
    with pytest.raises(TransientError, match="reply was lost"):
        world.create("container", "one", GUARD)
    assert only(world).name == "one"


def test_does_it_late_and_reserves_the_name_meanwhile(world: FakeWorld) -> None:
    world.inject(Fault("create", "late", after=0.2))
    with pytest.raises(TransientError, match="reply was lost"):
        world.create("container", "one", GUARD)
    assert world.objects() == []
    with pytest.raises(TransientError, match="in flight"):
        world.create("container", "one", GUARD)
    time.sleep(0.25)
    assert only(world).name == "one"


@pytest.mark.parametrize("op", ["start", "stop", "remove", "put"])
def test_carries_late_requests_out_when_they_are_due(op: str, world: FakeWorld) -> None:
    made = world.create("container", "one", GUARD)
    world.inject(Fault(op, "late", after=0.0))
    calls = {
        "start": lambda: world.start(made),
        "stop": lambda: world.stop(made),
        "remove": lambda: world.remove(made),
        "put": lambda: world.put(made, "/file", "text"),
    }
    with pytest.raises(TransientError):
        calls[op]()
    found = {o.id: (o.state, o.files) for o in world.objects()}
    expected = {"start": ("running", {}), "stop": ("exited", {}), "put": ("created", {"/file": "text"})}
    assert found == ({made: expected[op]} if op in expected else {})


def test_is_not_there_when_told_so(world: FakeWorld) -> None:
    world.inject(Fault("list", "unavailable"))
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        world.objects()
    assert world.objects() == []


def test_lets_a_started_container_end(world: FakeWorld) -> None:
    made = world.create("container", "one", GUARD)
    world.inject(Fault("start", "exits", role="guard"))
    world.start(made, healthy=True)
    assert (only(world).state, only(world).exit_code, only(world).healthy) == ("exited", 1, None)


def test_harms_only_the_role_that_a_fault_names(world: FakeWorld) -> None:
    world.inject(Fault("create", "transient", role="agent"))
    world.create("container", "one", GUARD)
    with pytest.raises(TransientError):
        world.create("container", "two", {"bottle-fsm.role": "agent"})


def test_takes_its_time_when_told_so(world: FakeWorld) -> None:
    world.slow_down(0.05)
    started = time.monotonic()
    world.objects()
    assert time.monotonic() - started >= 0.05


def test_makes_no_file_for_a_question(world: FakeWorld, tmp_path: Path) -> None:
    before = world.identity()
    assert world.objects() == []
    assert not (tmp_path / "deep").exists()
    world.create("network", "net", {})
    assert world.identity() == before
