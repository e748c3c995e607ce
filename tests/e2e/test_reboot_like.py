"""What a reboot leaves, and what a lost interceptor leaves: `apply` mends it, and the agent's work is kept.

The engine itself is shared with other tests, so it goes on running: the bottle's containers are stopped through it.
"""

from __future__ import annotations

import pytest

from e2e_bench import CONTAINER_ROLES, Bench, simple

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
GATE = "curl -sSf https://gate.bottle-fsm.internal/"


@pytest.fixture(scope="module", name="bottle")
def _bottle(shared: Bench) -> Bench:
    manifest = simple(env={"TOKEN": {"from": "${TOKEN}", "secret": True}})
    shared.env["TOKEN"] = "a-secret-that-lives-on-tmpfs"
    shared.ok("apply", shared.write(manifest))
    shared.ok("exec", GUEST, "--", "sh", "-c", "echo precious > /workspace/work.txt")
    return shared


def whole(bench: Bench) -> None:
    """See that the bottle is as it was handed over, with its work."""
    assert bench.status(GUEST)["state"] == "provisioned"
    ended = bench.inside(GUEST, f'cat /workspace/work.txt; echo "$TOKEN"; {GATE} >/dev/null')
    assert (ended.code, ended.out) == (0, f"precious\n{bench.env['TOKEN']}\n"), ended.err
    again = bench.ok("apply", bench.place / "trial.yaml")
    assert "unchanged: nothing to do" in again.err


def test_starts_the_same_containers_again_after_all_were_stopped(bottle: Bench) -> None:
    before, ca = bottle.resources(GUEST), bottle.status(GUEST)["ca_sha256"]
    with bottle.engine.guarded("stop all") as api:
        for role in CONTAINER_ROLES:
            assert api.inspect_container(before[role])["HostConfig"]["RestartPolicy"]["Name"] in {"", "no"}
            api.kill(before[role])
    drift = bottle.ok("status", GUEST, "--drift")
    assert "exited" in drift.out or "not running" in drift.out
    assert "is ready, repaired" in bottle.ok("apply", bottle.place / "trial.yaml").err
    assert bottle.resources(GUEST) == before
    assert bottle.status(GUEST)["ca_sha256"] == ca
    whole(bottle)


def test_makes_a_new_ca_when_the_interceptor_was_removed(bottle: Bench) -> None:
    before, ca = bottle.resources(GUEST), bottle.status(GUEST)["ca_sha256"]
    with bottle.engine.guarded("remove the interceptor") as api:
        api.remove_container(before["interceptor"], force=True)
    assert bottle.inside(GUEST, f"{GATE} -m 5").code != 0
    repaired = bottle.ok("apply", bottle.place / "trial.yaml")
    assert "is ready, repaired" in repaired.err
    after = bottle.resources(GUEST)
    assert after["agent"] == before["agent"], "the agent is never remade because a sidecar was"
    assert after["guard"] == before["guard"]
    assert after["interceptor"] != before["interceptor"]
    renewed = bottle.status(GUEST)["ca_sha256"]
    assert renewed != ca
    assert ":".join(renewed.upper()[i : i + 2] for i in range(0, 64, 2)) in repaired.err, "the new fingerprint is told"
    assert "curl" in repaired.err, "trust was proved again"
    whole(bottle)


def test_keeps_the_work_when_an_interrupted_repair_is_resumed(bottle: Bench) -> None:
    agent = bottle.resources(GUEST)["agent"]
    with bottle.engine.guarded("stop the agent") as api:
        api.kill(agent)
    assert "is ready" in bottle.ok("resume", GUEST).err
    assert bottle.resources(GUEST)["agent"] == agent
    whole(bottle)


def test_makes_an_agent_again_that_somebody_removed(bottle: Bench) -> None:
    with bottle.engine.guarded("remove the agent") as api:
        api.remove_container(bottle.resources(GUEST)["agent"], force=True)
    assert "is ready, repaired" in bottle.ok("apply", bottle.place / "trial.yaml").err, "nothing is left to be lost"
    bottle.ok("destroy", GUEST, "--yes")
    assert bottle.left() == []
    bottle.ok("audit", "verify")
