"""What stopped is started again, what is lost is made again, and what is well is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.errors import BackendError
from bottle_fsm.places import AGENT_ENV_FILE
from contract.contract_place import CANARY, CONTAINERS, Place


@pytest.fixture
def halted(shared_home: Place) -> Place:
    """The shared bottle after a reboot: each container ended, and nothing started it again."""
    if shared_home.condition != "halted":
        shared_home.mend()
        shared_home.bottle().copy_in(b"a day's work", "/workspace/work.txt")
        for role in CONTAINERS:
            shared_home.halt(shared_home.ids()[role])
        shared_home.condition = "halted"
    return shared_home


@pytest.fixture
def robbed(shared_home: Place) -> Place:
    """The shared bottle without its sidecars; under the guard's name there is one that never started."""
    if shared_home.condition != "robbed":
        shared_home.mend()
        for role in ("guard", "interceptor"):
            shared_home.vanish(shared_home.ids()[role])
        shared_home.plant_ours("guard")
        shared_home.condition = "robbed"
    return shared_home


def test_sees_that_containers_ended_and_with_which_code(halted: Place) -> None:
    found = {r.role: r for r in halted.observe().ours if r.role in CONTAINERS}
    assert {role: r.state for role, r in found.items()} == dict.fromkeys(CONTAINERS, "exited")
    assert {r.detail["exit_code"] for r in found.values()} == {137}
    assert {role: r.id for role, r in found.items()} == {role: halted.ids()[role] for role in CONTAINERS}


def test_does_nothing_in_a_bottle_that_is_stopped(halted: Place, tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        halted.bottle().exec(["true"])
    with pytest.raises(BackendError):
        halted.bottle().copy_in(b"", "/home/agent/file")
    with pytest.raises(BackendError):
        halted.bottle().copy_out("/home/agent", tmp_path / "back")
    with pytest.raises(BackendError):
        halted.bottle().read_file("/home/agent/file")


def test_says_that_a_stopped_bottle_is_not_as_promised(halted: Place) -> None:
    assert halted.drift() != ""


def test_starts_no_agent_whose_sidecars_are_dead(halted: Place) -> None:
    before = halted.raw()
    with pytest.raises(BackendError):
        halted.effect("start_agent")
    assert halted.raw() == before


def test_starts_what_stopped_again_with_its_files_secrets_and_ca(halted: Place) -> None:
    before, ca = halted.ids(), halted.record.facts["ca_sha256"]
    assert halted.apply().action == "repaired"
    assert halted.ids() == before
    assert {r.state for r in halted.raw()} == {"running", "present"}
    bottle = halted.bottle()
    assert bottle.read_file("/workspace/work.txt") == b"a day's work"
    assert b"TOKEN" in bottle.read_file(AGENT_ENV_FILE)
    if halted.deviation.shows_secrets_inside:
        assert bottle.exec(["printenv", "TOKEN"]).text == CANARY
    assert halted.record.facts["ca_sha256"] == ca
    assert halted.drift() == ""
    halted.condition = "well"


def test_tells_created_and_running_apart(robbed: Place) -> None:
    states = {r.role: r.state for r in robbed.observe().ours if r.role in CONTAINERS}
    assert states == {"guard": "created", "agent": "running"}


def test_says_what_is_broken(robbed: Place) -> None:
    assert robbed.drift() in {"a container is gone", "a sandbox is gone"}


def test_makes_lost_sidecars_again_and_renews_trust_without_touching_the_agent(robbed: Place) -> None:
    before, ca = robbed.ids(), robbed.record.facts["ca_sha256"]
    assert robbed.apply().action == "repaired"
    after = robbed.ids()
    assert {role for role in after if after[role] != before.get(role)} == {"guard", "interceptor"}
    assert robbed.record.facts["ca_sha256"] != ca
    assert robbed.drift() == ""
    robbed.condition = "well"
