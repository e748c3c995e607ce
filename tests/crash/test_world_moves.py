"""The world moves under a bottle: status shows it, apply and resume repair it and say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.backend.fake.world import FakeObject
from bottle_fsm.store import kinds
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from cli_shell import Shell

BOTTLE = "demo/implementer"
SIDECARS = ("guard", "interceptor")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    assert made.apply().code == 0
    return made


def objects(shell: Shell) -> dict[str, FakeObject]:
    return {o.labels["bottle-fsm.role"]: o for o in shell.world.objects()}


def drift(shell: Shell) -> list[str]:
    ended = shell.run("status", BOTTLE, "--drift", "--json")
    assert ended.code == 0
    found: list[str] = ended.objects[0]["drift"]
    return found


def causes(shell: Shell, kind: str) -> list[str]:
    root = open_root(shell.state)
    journal = Journal(root.path, root.root_id)
    try:
        return [e.cause for e in journal.events(BOTTLE, kind=kind)]
    finally:
        journal.close()


@pytest.mark.parametrize("verb", ["apply", "resume"])
@pytest.mark.parametrize(
    ("role", "how", "word"),
    [
        ("guard", "stop", "exited with code 137"),
        ("guard", "remove", "not found"),
        ("interceptor", "stop", "exited with code 137"),
        ("interceptor", "remove", "not found"),
        ("agent", "stop", "exited with code 137"),
        ("agent", "remove", "not found"),
    ],
)
def test_repairs_a_container_and_names_the_cause(role: str, how: str, word: str, verb: str, shell: Shell) -> None:
    before = {r: o.id for r, o in objects(shell).items()}
    getattr(shell.world, how)(before[role])
    found = drift(shell)
    assert len(found) == 1
    assert found[0].startswith(f"{role} ")
    assert found[0].endswith(word)
    ended = shell.apply() if verb == "apply" else shell.run("resume", BOTTLE)
    assert ended.code == 0
    assert drift(shell) == []
    after = {r: o.id for r, o in objects(shell).items()}
    assert {r for r in before if before[r] != after[r]} == ({role} if how == "remove" else set())
    assert any(word in cause for cause in causes(shell, kinds.INTENT))
    assert any(word in cause for cause in causes(shell, kinds.STEP_INTENT))


def test_repairs_a_network_that_was_pruned(shell: Shell) -> None:
    """A network goes only when nothing hangs on it: somebody removed every container first, then pruned."""
    before = objects(shell)
    for role in ("agent", "interceptor", "guard", "net-inside"):
        shell.world.remove(before[role].id)
    named = " ".join(drift(shell))
    assert all(f"{role} " in named for role in ("net-inside", "guard", "interceptor", "agent"))
    assert shell.run("resume", BOTTLE).code == 0
    after = objects(shell)
    assert after["agent"].networks == [after["net-inside"].id]
    assert after["net-between"].id == before["net-between"].id


def test_starts_everything_again_after_the_engine_restarted(shell: Shell) -> None:
    before = {r: o.id for r, o in objects(shell).items()}
    shell.world.restart()
    assert {line.split()[0] for line in drift(shell)} == {"guard", "interceptor", "agent"}
    assert shell.run("resume", BOTTLE).code == 0
    assert {r: o.id for r, o in objects(shell).items()} == before
    steps = causes(shell, kinds.STEP_INTENT)
    assert [c for c in steps if c == "exited with code 137"] == ["exited with code 137"] * 3
    started = started_roles(shell)
    assert started[-3:] == ["guard", "interceptor", "agent"]


def started_roles(shell: Shell) -> list[str]:
    root = open_root(shell.state)
    journal = Journal(root.path, root.root_id)
    try:
        steps = [str(e.evidence["step"]) for e in journal.events(BOTTLE, kind=kinds.STEP_DONE)]
    finally:
        journal.close()
    return [step.removeprefix("start ") for step in steps if step.startswith("start ")]


def test_finishes_a_launch_during_which_the_engine_restarted(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.env["BOTTLE_FSM_FAILPOINT"] = "done.after#6=kill"  # the agent is up, nothing is inside yet
    assert shell.ended("apply", shell.manifest, "implementer").code == -9
    del shell.env["BOTTLE_FSM_FAILPOINT"]
    assert {o.state for o in shell.world.objects()} == {"running", "present"}
    before = shell.ids()
    shell.world.restart()
    assert shell.run("resume", BOTTLE).code == 0
    assert shell.ids() == before
    assert drift(shell) == []
    assert "repair" in causes(shell, kinds.INTENT) or any("exited" in c for c in causes(shell, kinds.INTENT))


def test_does_not_start_the_agent_when_a_sidecar_will_not_run(shell: Shell) -> None:
    shell.world.restart()
    shell.goes_wrong("start", "exits", "interceptor", times=9)
    assert shell.run("resume", BOTTLE).code == 5
    assert objects(shell)["agent"].state == "exited"
    assert started_roles(shell).count("agent") == 1


def test_notices_another_ca_and_renews_the_trust(shell: Shell) -> None:
    """The interceptor was made again by hand: all is there and runs, but nothing of the agent's TLS would verify."""
    old = objects(shell)["interceptor"]
    shell.world.remove(old.id)
    made = shell.world.create("container", old.name, old.labels, networks=old.networks)
    shell.world.start(made, healthy=True)
    assert drift(shell) == ["the interceptor has another CA than the recorded one"]
    before = shell.run("status", BOTTLE, "--json").objects[0]["ca_sha256"]
    assert shell.run("resume", BOTTLE).code == 0
    assert drift(shell) == []
    assert objects(shell)["interceptor"].id == made
    assert shell.run("status", BOTTLE, "--json").objects[0]["ca_sha256"] != before
    assert any("another CA" in cause for cause in causes(shell, kinds.INTENT))


def test_says_that_nothing_was_observed_since_a_reboot(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottle_fsm.store.lock.boot_id", lambda: "another boot")
    monkeypatch.setattr("bottle_fsm.store.journal.boot_id", lambda: "another boot")
    monkeypatch.setattr("bottle_fsm.cli.standing.boot_id", lambda: "another boot")
    shell.world.restart()
    assert "not observed since reboot" in shell.run("status").out
    assert shell.run("status", BOTTLE, "--json").objects[0]["observed_since_boot"] is False
    assert shell.run("resume", BOTTLE).code == 0
    assert "not observed since reboot" not in shell.run("status").out
    assert shell.run("status", BOTTLE, "--json").objects[0]["observed_since_boot"] is True
    assert drift(shell) == []
