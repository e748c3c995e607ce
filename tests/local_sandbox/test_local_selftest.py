"""`selftest` on a real sandbox: passes while all is well, and names what fails when a sidecar is killed for real."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bottle_fsm.backend.local import proc
from local_sandbox.local_bench import Tenant

GUEST = "walls/guest"
STANDS = ("state", "launch", "outcome", "resources", "ca_sha256", "since", "error", "cause")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """One bottle for this module; whoever breaks it lets `resume` mend it."""
    made = Tenant(tmp_path_factory.mktemp("selftest"))
    made.ok("apply", made.write(), "--backend", "local")
    made.inside("echo precious > /workspace/work.txt")
    yield made
    made.clean()


def rows(lines: str) -> dict[str, Any]:
    """Return what each row said, by its name, from the one event that `--json` printed."""
    (event,) = (v for v in map(json.loads, lines.splitlines()) if v.get("kind") == "observed")
    found = event["evidence"]
    return {r.get("tool") or r["probe"]: r["ok"] for table in ("trust_matrix", "selftest") for r in found[table]}


def stands(tenant: Tenant) -> dict[str, Any]:
    (value,) = map(json.loads, tenant.ok("status", GUEST, "--json").out.splitlines())
    return {name: value[name] for name in STANDS}


def kill(known: proc.Known) -> None:
    os.kill(known.pid, signal.SIGKILL)
    end = time.monotonic() + 15
    while proc.is_alive(known):
        assert time.monotonic() < end, f"{known.pid} lives"
        time.sleep(0.02)


def test_passes_while_all_is_well_and_changes_nothing(guest: Tenant) -> None:
    before, agent, files = stands(guest), guest.known(), guest.inside("ls -A /tmp ~")
    ended = guest.ok("selftest", GUEST)
    assert ended.err.endswith(f"{GUEST}: passed its self-test: no row failed\n")
    assert "allow rule example.org:443" in ended.err
    assert "gate.bottle-fsm.internal answered, certificate verified" in ended.err
    found = rows(guest.ok("selftest", "guest", "--json").out)
    assert found["ca-alone"] is True
    assert found["host without a rule, HTTPS"] is True
    assert False not in found.values()
    assert (stands(guest), guest.known()) == (before, agent)
    assert guest.inside("ls -A /tmp ~") == files
    assert "the chain holds" in guest.ok("audit", "verify").out


def test_names_the_rows_that_fail_when_sidecars_are_dead_and_mends_nothing(guest: Tenant) -> None:
    before, agent = stands(guest), guest.known()
    kill(guest.known("guard"))
    wrong = failing(guest)
    assert "allow rule example.org:443" in wrong
    assert "curl" not in wrong, "the interceptor answers the gate itself"
    kill(guest.known("interceptor"))
    assert {"allow rule example.org:443", "verdict on a host without a rule"} <= failing(guest)
    assert "trust gate: no tool reached the gate: " in guest.ok("audit", GUEST, "--kind", "observed").out
    assert (stands(guest), guest.known()) == (before, agent)
    assert not [role for role in ("guard", "interceptor") if proc.is_alive(guest.known(role))], "nothing was mended"
    assert guest.ok("resume", GUEST).err.count("is ready, repaired") == 1
    assert guest.inside("cat /workspace/work.txt") == "precious"
    assert False not in rows(guest.ok("selftest", GUEST, "--json").out).values()


def failing(tenant: Tenant) -> set[str]:
    """Run a self-test that fails; return the rows that failed, all of which the error names."""
    ended = tenant.run("selftest", GUEST, "--json")
    assert ended.code == 1, ended.err
    found = rows(ended.out)
    assert found["metadata address"] is True
    wrong = {name for name, ok in found.items() if ok is False}
    (error,) = (line for line in ended.err.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: {GUEST}: {len(wrong)} of {len(found)} rows failed: ")
    assert all(name in error for name in wrong)
    assert error.endswith(f"`bottle-fsm resume {GUEST}` mends drift, `bottle-fsm destroy {GUEST}` ends it.")
    return wrong
