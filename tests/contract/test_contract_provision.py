"""What is put inside: in one order, as often as one likes, watched, and without a secret where anybody looks."""

from __future__ import annotations

from typing import Any

import pytest

from bottle_fsm.backend.base import PROVISION_ORDER
from bottle_fsm.errors import GateError
from bottle_fsm.model import Json
from bottle_fsm.places import CA_CERT_PATH
from bottle_fsm.runner.prove import prove
from bottle_fsm.store import kinds
from contract.contract_place import CANARY, Place

NAMES = PROVISION_ORDER[1:]


def _finding(value: Any) -> Any:
    """Return what a provisioner found, without the word whether it had to change something."""
    if isinstance(value, dict):
        return {name: _finding(item) for name, item in value.items() if name not in {"facts", "changed"}}
    return value


def test_provisions_in_the_one_order_and_the_second_time_changes_nothing(home: Place) -> None:
    def provisioned(since: int) -> list[Json]:
        return [step for step in home.steps_of("provision", since) if step["step"] in NAMES]

    first, since = provisioned(0)[-len(NAMES) :], home.record.sequence
    home.effect("provision")
    second = provisioned(since)
    assert [step["step"] for step in first] == list(NAMES)
    assert list(map(_finding, second)) == list(map(_finding, first))
    assert "'changed': True" not in str(second)
    assert home.drift() == ""


def _rows(home: Place, name: str) -> list[Json]:
    """Return the rows of the newest proof of a name, wherever in the journal it stands."""
    found = [e.evidence[name] for e in home.events(kinds.STEP_DONE, kinds.DONE) if name in e.evidence]
    return list(found[-1])


def test_has_trust_before_anything_else_is_put_inside(home: Place) -> None:
    done = home.events(kinds.DONE)
    reached = [e.dest for e in done]
    assert reached.index("ca_trusted") < reached.index("provisioned")
    first_put = next(e for e in home.events(kinds.STEP_DONE) if e.evidence["step"] == "prompt")
    trusted = next(e for e in done if e.dest == "ca_trusted")
    assert trusted.sequence < first_put.sequence
    rows = _rows(home, "trust_matrix")
    assert rows
    assert all(row["ok"] is not False for row in rows)


def test_trusts_twice_without_changing_the_ca(home: Place) -> None:
    before, facts = home.bottle().read_file(CA_CERT_PATH), dict(home.record.facts)
    home.effect("trust_ca")
    assert home.bottle().read_file(CA_CERT_PATH) == before
    assert home.record.facts["ca_sha256"] == facts["ca_sha256"]
    assert home.drift() == ""


def test_notices_and_mends_an_agent_with_another_ca(worn_home: Place) -> None:
    bottle = worn_home.bottle()
    before = bottle.read_file(CA_CERT_PATH)
    bottle.copy_in(b"another one", CA_CERT_PATH, owner="root")
    assert worn_home.drift() != ""
    assert worn_home.apply().action == "repaired"
    assert worn_home.bottle().read_file(CA_CERT_PATH) == before
    assert worn_home.drift() == ""
    worn_home.condition = "well"


def test_proves_what_gets_out(home: Place) -> None:
    rows = _rows(home, "selftest")
    assert rows
    assert all(row["ok"] is not False for row in rows)


def test_proves_again_what_was_proved_and_changes_nothing(home: Place) -> None:
    before, world = home.record, home.raw()
    assert prove(home.runtime, home.bottle_name).action == "proved"
    found = home.events(kinds.OBSERVED)[-1]
    for table, name in (("trust_matrix", "tool"), ("selftest", "probe")):
        assert [row[name] for row in found.evidence[table]] == [row[name] for row in _rows(home, table)]
        assert all(row["ok"] is not False for row in found.evidence[table])
    assert (home.record.state, home.record.facts, home.record.outcome) == (before.state, before.facts, before.outcome)
    assert home.raw() == world
    assert home.drift() == ""


def test_proves_no_trust_in_another_ca_and_leaves_it_there(worn_home: Place) -> None:
    bottle = worn_home.bottle()
    bottle.copy_in(b"another one", CA_CERT_PATH, owner="root")
    with pytest.raises(GateError, match=r"rows failed: .*(ca-alone|simulated): "):
        prove(worn_home.runtime, worn_home.bottle_name)
    assert bottle.read_file(CA_CERT_PATH) == b"another one"
    assert worn_home.apply().action == "repaired"
    worn_home.condition = "well"


def test_shows_no_secret_to_anybody(home: Place) -> None:
    canary = CANARY.encode()
    assert canary not in home.visible()
    assert CANARY not in str([r.labels for r in home.raw()])
    for path in home.runtime.root.path.rglob("*"):
        if path.is_file():
            assert canary not in path.read_bytes(), path
    assert CANARY not in str(home.record.to_json())
    assert CANARY not in str([e.body() for e in home.events()])
