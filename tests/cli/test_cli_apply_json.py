from __future__ import annotations

import re
from pathlib import Path

import pytest

from bottle_fsm.store.lock import BottleLock
from cli_shell import MANIFEST, Shell

FINGERPRINT = re.compile(r"CA SHA-256 fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}\n")


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_prints_header_events_and_outcome_as_json(shell: Shell) -> None:
    ended = shell.apply("--json")
    first, *events, last = ended.objects
    assert ended.code == 0
    assert first["schema"] == "bottle-fsm/1"
    assert first["command"] == "apply"
    assert [e["kind"] for e in events] == [k for k in shell.kinds() if k != "lock"]
    assert [e["sequence"] for e in events] == sorted(e["sequence"] for e in events)
    assert (last["outcome"], last["exit_code"]) == ("ok", 0)
    (row,) = last["bottles"]
    assert (row["bottle"], row["result"], row["state"], row["outcome"]) == (
        "demo/implementer",
        "launched",
        "provisioned",
        "ready",
    )
    assert FINGERPRINT.search(ended.err)
    assert "provisioned" not in ended.err


@pytest.mark.parametrize(
    ("policy", "left", "state"), [("teardown", "nothing", "torn_down"), ("keep", "kept", "planned")]
)
def test_says_in_json_whether_a_failed_launch_was_torn_down_or_kept(
    shell: Shell, policy: str, left: str, state: str
) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply("--json", "--on-failure", policy)
    last = ended.objects[-1]
    assert (ended.code, last["exit_code"], last["outcome"]) == (5, 5, "launch_failed")
    (row,) = last["bottles"]
    assert (row["result"], row["left"], row["state"]) == ("failed", left, state)
    assert row["error"]["code"] == "launch_failed"
    assert "the guard ended with code 1" in row["error"]["problem"]


def test_ends_the_json_of_a_wrong_manifest_with_every_problem(shell: Shell) -> None:
    shell.manifest.write_text(MANIFEST.replace("egress:", "egres:"))
    ended = shell.apply("--json")
    first, last = ended.objects
    assert first["schema"] == "bottle-fsm/1"
    assert (last["outcome"], last["exit_code"], ended.code) == ("manifest", 1, 1)
    (problem,) = last["error"]["problems"]
    assert problem["hint"] == "Did you mean `egress`?"


def test_fails_with_the_sidecars_own_error_and_leaves_nothing(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply()
    assert ended.code == 5
    assert "demo/implementer  proxies_up attempt 1 failed: the guard ended with code 1\n" in ended.err
    assert "error: demo/implementer after planned: " in ended.err
    assert "Everything of this launch was taken away again.\n" in ended.err
    assert shell.ids() == []


def test_keeps_a_failed_launch_when_asked_and_resumes_it(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    ended = shell.apply("--on-failure", "keep")
    assert ended.code == 5
    assert "demo/implementer  kept as it is, in the state planned\n" in ended.err
    assert "`bottle-fsm resume demo/implementer` goes on" in ended.err
    assert shell.ids() != []
    again = shell.run("resume", "demo/implementer")
    assert again.code == 0
    assert "demo/implementer: is ready, resumed\n" in again.err


def test_ends_with_6_when_something_is_left_and_goes_on_later(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "interceptor")
    shell.goes_wrong("remove", "refuse", "guard", times=2)
    ended = shell.apply("--json")
    assert ended.code == 6
    (row,) = ended.objects[-1]["bottles"]
    assert (row["left"], row["outcome"]) == ("leftovers", "leftover")
    assert "claude-bottle-pipelock-implementer-" in ended.err
    assert "error: demo/implementer: the launch failed" in ended.err
    again = shell.run("destroy", "implementer")
    assert again.code == 0
    assert "demo/implementer: is torn down: nothing of it is left\n" in again.err
    assert shell.ids() == []


def test_ends_with_3_when_another_process_holds_the_lock(shell: Shell) -> None:
    shell.apply()
    with BottleLock(shell.state, "demo/implementer", command="destroy"):
        ended = shell.apply()
    assert ended.code == 3
    assert re.match(r"error: demo/implementer: held by pid \d+ \(destroy\)\. Wait for it, or give --", ended.err)


def test_ends_with_4_when_a_decision_is_needed(shell: Shell, tmp_path: Path) -> None:
    shell.apply()
    other = tmp_path / "other.yaml"
    other.write_text(MANIFEST)
    ended = shell.run("apply", other, "implementer")
    assert ended.code == 4
    assert f"was made from {shell.manifest}, not from {other}" in ended.err
    assert shell.run("apply", other, "implementer", "--name", "another").code == 0


def test_takes_the_highest_exit_code_of_several_bottles(shell: Shell) -> None:
    shell.run("apply", shell.manifest, "reviewer")
    with BottleLock(shell.state, "demo/reviewer", command="exec"):
        ended = shell.run("apply", shell.manifest, "--parallel", "2", "--json")
    rows = {row["bottle"]: row for row in ended.objects[-1]["bottles"]}
    assert ended.code == 3
    assert (rows["demo/implementer"]["exit_code"], rows["demo/reviewer"]["exit_code"]) == (0, 3)
    assert ended.objects[-1]["outcome"] == "lock_held"
