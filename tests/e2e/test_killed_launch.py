"""A launcher that dies by SIGKILL in the middle of `mitm_up`, and another that goes on."""

from __future__ import annotations

import json
import subprocess

import pytest

from e2e_bench import CONTAINER_ROLES, UP, Bench, kill_hard, simple

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"


def killed_after(bench: Bench, step: str) -> dict[str, str]:
    """Apply, kill -9 as soon as the JSON stream tells of a step, and return the ids of the containers then."""
    process = bench.spawn("apply", bench.write(simple()), "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("kind") == "step_done" and event["evidence"]["step"] == step:
            break
    else:
        raise AssertionError(f"the step {step} never came")
    kill_hard(process)
    process.stdout.close()
    return {role: found for role, found in bench.resources(GUEST).items() if role in CONTAINER_ROLES}


def test_adopts_what_a_killed_launcher_started(bench: Bench) -> None:
    then = killed_after(bench, "start interceptor")
    assert set(then) == {"guard", "interceptor"}
    standing = bench.status(GUEST)
    assert (standing["state"], standing["outcome"]) == ("proxies_up", "interrupted")
    started = {role: bench.inspect(found)["State"]["StartedAt"] for role, found in then.items()}
    assert bench.inspect(then["interceptor"])["State"]["Running"]

    resumed = bench.ok("resume", GUEST)
    assert "is ready, resumed" in resumed.err
    now = bench.resources(GUEST)
    for role in ("guard", "interceptor"):
        assert now[role] == then[role], "the same container is adopted"
        assert bench.inspect(now[role])["State"]["StartedAt"] == started[role], "and was not started again"
    assert bench.status(GUEST)["state"] == "provisioned"
    assert bench.inside(GUEST, "curl -sS https://gate.bottle-fsm.internal/").code == 0

    events = bench.events(GUEST)
    assert len({event["run"] for event in events}) >= 2, "the journal shows both processes"
    assert sorted({event["epoch"] for event in events if event["epoch"]}) == [1, 2]
    assert [event["dest"] for event in events if event["kind"] == "done"] == list(UP)
    bench.ok("audit", "verify")

    bench.ok("destroy", GUEST, "--yes")
    assert bench.left() == []


def test_destroys_what_a_killed_launcher_left(bench: Bench) -> None:
    assert killed_after(bench, "start interceptor")
    bench.ok("destroy", GUEST)
    assert bench.left() == []
    assert bench.status(GUEST)["state"] == "torn_down"
    bench.ok("audit", "verify")
