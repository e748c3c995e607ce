"""Before anything exists: every backend checks, plans, and leaves no trace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bottle_fsm.backend.base import BottleBackend
from bottle_fsm.errors import ValidationError
from bottle_fsm.manifest.spec import BottleSpec
from contract.contract_place import CANARY, Place


def test_prepares_the_same_plan_twice_and_makes_nothing(place: Place) -> None:
    first, second = place.backend().prepare(place.spec()), place.backend().prepare(place.spec())
    assert first == second
    assert first.digest == second.digest
    assert place.raw() == []
    assert place.events() == []


def test_reads_a_recorded_plan_back(place: Place) -> None:
    backend = place.backend()
    plan = backend.prepare(place.spec())
    again = backend.load_plan(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    assert again.digest == plan.digest


def test_plans_every_object_with_the_state_that_promises_it(place: Place) -> None:
    plan = place.backend().prepare(place.spec())
    assert {o.role: o.state for o in plan.objects} == {
        **dict.fromkeys(set(place.roles) - {"interceptor", "agent"}, "proxies_up"),
        "interceptor": "mitm_up",
        "agent": "agent_up",
    }
    assert {o.name for o in plan.objects} == {place.name_of(o.role) for o in plan.objects}
    assert [o.role for o in plan.objects if o.precious] == ["agent"]
    assert {o.role for o in plan.objects if o.runs} == {"guard", "interceptor", "agent"}


def test_plans_names_of_secrets_and_no_value(place: Place) -> None:
    plan = place.backend().prepare(place.spec())
    assert dict(plan.secrets) == {"TOKEN": ("example.org",)}
    assert CANARY not in str(plan.to_json())
    assert CANARY not in repr(plan)


def test_plans_another_agent_for_another_variable_and_the_same_sidecars(place: Place) -> None:
    before = place.backend().prepare(place.spec())
    place.write(greeting="good morning")
    after = place.backend().prepare(place.spec())
    assert [o.role for o in after.objects if o not in before.objects] == ["agent"]


def test_plans_other_sidecars_for_another_policy_and_the_same_agent(place: Place) -> None:
    before = place.backend().prepare(place.spec())
    place.write(allow="example.net")
    after = place.backend().prepare(place.spec())
    assert [o.role for o in after.objects if o not in before.objects] == ["guard", "interceptor"]


def test_refuses_an_agent_that_the_manifest_lacks(place: Place) -> None:
    _refuses(place, place.spec().model_copy(update={"agent": "nobody"}), "nobody")


def test_refuses_a_skill_that_is_not_on_this_host(place: Place) -> None:
    place.write(more={"skills": ["./missing"]})
    _refuses(place, place.spec(), "missing")


def test_refuses_a_key_that_is_not_on_this_host(place: Place) -> None:
    host_key = _host_key(place.folder)
    entry = {"host": "git.example.org", "user": "git", "identity_file": "./no-key", "known_host_key": host_key}
    place.write(reach={"ssh": [entry]})
    _refuses(place, place.spec(), "no-key")


def _refuses(place: Place, spec: BottleSpec, message: str) -> None:
    backend: BottleBackend = place.backend()
    with pytest.raises(ValidationError, match=message) as caught:
        backend.prepare(spec)
    assert caught.value.exit_code == 1
    assert place.raw() == []


def _host_key(folder: Path) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / "host")]
    subprocess.run(command, check=True)
    return (folder / "host.pub").read_text().strip()
