from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.cli.drift import look
from bottle_fsm.cli.standing import standing_of
from bottle_fsm.cli.target import target
from bottle_fsm.errors import BackendError
from bottle_fsm.store.lock import BottleLock
from bottle_fsm.store.record import BottleRecord
from cli_shell import Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_shows_nothing_and_makes_nothing_where_nothing_is(shell: Shell) -> None:
    ended = shell.run("status")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"No bottles in {shell.state}. `bottle-fsm apply MANIFEST` makes one.\n"
    assert shell.run("status", "--json").out == ""
    assert not shell.state.exists()


def test_prints_one_object_for_each_bottle_torn_down_ones_included(shell: Shell) -> None:
    shell.run("apply", shell.manifest)
    shell.run("destroy", "reviewer", "--yes")
    first, second = shell.run("status", "--json").objects
    assert first["schema"] == "bottle-fsm/1"
    assert (first["bottle"], first["state"], first["outcome"], first["backend"]) == (
        "demo/implementer",
        "provisioned",
        "ready",
        "fake",
    )
    assert len(first["launch"]) == 12
    assert {r["role"] for r in first["resources"]} >= {"agent", "guard", "interceptor"}
    assert len(first["ca_sha256"]) == 64
    assert first["observed_since_boot"] is True
    assert (second["bottle"], second["state"], second["outcome"], second["resources"]) == (
        "demo/reviewer",
        "torn_down",
        "torn_down",
        [],
    )


def test_shows_a_table_with_when_it_was_observed(shell: Shell) -> None:
    shell.apply()
    head, row = shell.run("status").out.splitlines()
    columns = ["BOTTLE", "OUTCOME", "STATE", "BACKEND", "LAUNCH", "ALLOWED", "DENIED", "OBSERVED", "AT"]
    assert head.split() == columns
    record = shell.run("status", "--json").objects[0]
    seen = [record["launch"], "-", "-", record["observed_at"]]
    assert row.split() == ["demo/implementer", "ready", "provisioned", "fake", *seen]


def test_shows_a_named_bottle_in_full(shell: Shell) -> None:
    shell.apply()
    out = shell.run("status", "impl").out
    assert out.startswith("demo/implementer\n  outcome:     ready\n  state:       provisioned, since 20")
    assert f"  manifest:    {shell.manifest}\n" in out
    assert "  CA SHA-256:  " in out
    assert "  container    agent        claude-bottle-implementer-" in out


def test_says_that_nothing_was_observed_since_a_reboot(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.apply()
    monkeypatch.setattr("bottle_fsm.cli.standing.boot_id", lambda: "another boot")
    assert "(not observed since reboot)" in shell.run("status").out
    assert shell.run("status", "--json").objects[0]["observed_since_boot"] is False


@pytest.mark.parametrize(
    ("recorded", "held", "shown"),
    [
        ("launching", False, "interrupted"),
        ("launching", True, "launching"),
        ("failed", True, "launching"),
        ("failed", False, "failed"),
        ("interrupted", True, "launching"),
        ("ready", True, "ready"),
        ("leftover", False, "leftover"),
    ],
)
def test_tells_an_interrupted_launch_by_its_free_lock(tmp_path: Path, *, recorded: str, held: bool, shown: str) -> None:
    (tmp_path / "locks").mkdir()
    record = BottleRecord("demo/a", launch="l", state="mitm_up", outcome=recorded)
    if not held:
        assert standing_of(tmp_path, record).outcome == shown
        assert list((tmp_path / "locks").iterdir()) == [], "a look makes no lock file"
        return
    with BottleLock(tmp_path, "demo/a", command="apply"):
        standing = standing_of(tmp_path, record)
        assert (standing.outcome, standing.held) == (shown, True)
    assert standing_of(tmp_path, record).held is False


def test_names_the_cause_of_a_failed_launch(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    shell.apply("--on-failure", "keep")
    assert "demo/implementer: demo/implementer proxies_up" in shell.run("status").out or (
        "the guard ended with code 1" in shell.run("status").out
    )
    assert shell.run("status", "--json").objects[0]["outcome"] == "failed"


def test_looks_for_drift_only_when_asked(shell: Shell) -> None:
    shell.apply()
    assert "no drift: everything is as recorded" in shell.run("status", "--drift").out
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.stop(guard.id)
    assert "drift" not in shell.run("status", "--json").objects[0]
    (found,) = shell.run("status", "--json", "--drift").objects
    assert found["drift"] == [f"guard {guard.name}: exited with code 137"]
    assert f"drift: guard {guard.name}: exited with code 137" in shell.run("status", "--drift").out


def test_finds_drift_although_every_object_is_there(shell: Shell) -> None:
    shell.apply()
    agent = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "agent")
    shell.world.put(agent.id, "/usr/local/share/ca-certificates/claude-bottle-mitm.crt", "644 root YQ==")
    (found,) = shell.run("status", "--json", "--drift").objects
    assert found["drift"] == ["the agent does not trust the bottle's CA"]


def test_says_why_a_bottle_cannot_be_looked_at(shell: Shell) -> None:
    shell.apply()
    shell.world.restart(identity=True)
    (found,) = shell.run("status", "--json", "--drift").objects
    assert found["drift"][0].startswith("cannot be looked at: demo/implementer: another engine answers")


def test_looks_at_torn_down_bottles_for_late_objects(shell: Shell) -> None:
    shell.apply()
    labels = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard").labels
    shell.run("destroy", "implementer", "--yes")
    assert shell.run("status", "--json", "--drift").objects[0]["drift"] == []
    shell.world.create("container", "claude-bottle-late", labels)
    assert shell.run("status", "--json", "--drift").objects[0]["drift"] == [
        "guard claude-bottle-late: left over from a launch that was torn down"
    ]


def test_needs_no_look_at_a_bottle_that_was_never_planned(tmp_path: Path) -> None:
    standing = standing_of(tmp_path, BottleRecord("demo/a", launch="l", state="validated", outcome="failed"))
    assert look(tmp_path, standing).drift == ()
    with pytest.raises(BackendError, match="never planned"):
        target(tmp_path, standing.record)


def test_says_that_a_process_works_on_it(shell: Shell) -> None:
    shell.apply()
    with BottleLock(shell.state, "demo/implementer", command="apply"):
        assert "demo/implementer: a process works on it now" in shell.run("status").out
