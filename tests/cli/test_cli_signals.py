from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bottle_fsm.store.lock import BottleLock
from cli_shell import PROGRAM, Ended, Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.run("status")
    found.world.slow_down(0.08)
    return found


def launch(shell: Shell, *words: str) -> subprocess.Popen[str]:
    """Start a slow launch and wait until it is in the middle of something."""
    process = shell.spawn("apply", shell.manifest, "implementer", *words)
    shell.wait_for("step_done")
    return process


def outcome(shell: Shell) -> str:
    shell.world.slow_down(0)
    return str(shell.run("status", "--json").objects[0]["outcome"])


def test_tears_down_after_the_first_key_and_says_so(shell: Shell) -> None:
    process = launch(shell)
    process.send_signal(signal.SIGINT)
    ended = shell.finish(process)
    assert ended.code == 130
    assert "SIGINT: the current step is finished, then what this launch made is taken away" in ended.err
    assert "A second signal stops at once, which is safe.\n" in ended.err
    assert "error: stopped by signal 2.\n    Everything of this launch was taken away again.\n" in ended.err
    assert outcome(shell) == "torn_down"
    assert shell.ids() == []


def test_keeps_everything_after_the_first_key_when_asked(shell: Shell) -> None:
    process = launch(shell, "--on-failure", "keep")
    process.send_signal(signal.SIGINT)
    ended = shell.finish(process)
    assert ended.code == 130
    assert "everything is kept as it is, for `bottle-fsm resume`" in ended.err
    assert "It was kept after " in ended.err
    assert outcome(shell) == "interrupted"
    kept = shell.ids()
    assert kept
    assert shell.run("resume", "implementer").code == 0
    assert set(kept) <= set(shell.ids()), "what was there is adopted"


@pytest.mark.parametrize(
    ("signum", "code", "left"), [(signal.SIGTERM, 143, "torn_down"), (signal.SIGHUP, 129, "interrupted")]
)
def test_follows_other_signals(shell: Shell, signum: int, code: int, left: str) -> None:
    process = launch(shell, "--json")
    process.send_signal(signum)
    ended = shell.finish(process)
    last = json.loads(ended.out.splitlines()[-1])
    assert (ended.code, last["exit_code"], last["outcome"]) == (code, code, "interrupted")
    assert last["bottles"][0]["left"] == ("nothing" if left == "torn_down" else "kept")
    assert outcome(shell) == left


@pytest.mark.parametrize("style", ["json", "console"])
def test_says_what_a_key_does_beside_log_lines_too(shell: Shell, style: str) -> None:
    process = launch(shell, "--log", style)
    process.send_signal(signal.SIGINT)
    ended = shell.finish(process)
    assert ended.code == 130
    notes = [line for line in ended.err.splitlines() if "SIGINT: the current step is finished" in line]
    assert len(notes) == 1
    assert (json.loads(notes[0])["event"] == "note") if style == "json" else notes[0].startswith("SIGINT")


def twice(shell: Shell, process: subprocess.Popen[str]) -> tuple[Ended, float]:
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = shell.finish(process)
    return ended, time.monotonic() - began


@pytest.mark.parametrize("bottles", [["implementer"], ["implementer", "reviewer"]], ids=["one", "several"])
def test_stops_at_once_after_the_second_key_and_loses_nothing(shell: Shell, bottles: list[str]) -> None:
    shell.world.slow_down(0.8)
    process = shell.spawn("apply", shell.manifest, *bottles)
    shell.wait_for("step_intent")
    ended, took = twice(shell, process)
    assert ended.code == 130
    assert took < 2.0
    assert "stopped at once. The journal is safe: `bottle-fsm status` shows what was interrupted" in ended.err
    assert "Traceback" not in ended.err
    shell.world.slow_down(0)
    assert shell.run("audit", "verify").code == 0
    outcomes = {o["bottle"]: o["outcome"] for o in shell.run("status", "--json").objects}
    assert outcomes["demo/implementer"] in {"interrupted", "leftover"}
    assert shell.run("resume", "--all").code == 0
    assert {o["outcome"] for o in shell.run("status", "--json").objects} <= {"ready", "torn_down"}


def test_calls_a_killed_launch_interrupted_and_resumes_it(shell: Shell) -> None:
    process = launch(shell)
    assert shell.run("status", "--json").objects[0]["in_progress"] is True
    process.kill()
    shell.finish(process)
    assert outcome(shell) == "interrupted"
    assert "interrupted" in shell.run("status").out
    again = shell.run("resume", "implementer")
    assert again.code == 0
    assert "settled what an earlier run left open" in again.err or "left open" not in again.err
    assert shell.run("audit", "verify").code == 0


def test_stops_waiting_for_a_lock(shell: Shell) -> None:
    (shell.state / "locks").mkdir()
    with BottleLock(shell.state, "demo/implementer", command="apply"):
        process = shell.spawn("apply", shell.manifest, "implementer", "--lock-timeout", "60")
        deadline = time.monotonic() + 30
        while not (shell.state / "journal.sqlite3").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ended = shell.finish(process)
    assert time.monotonic() - began < 10
    assert ended.code == 130
    assert "error: stopped by signal 2.\n    Nothing was begun.\n" in ended.err


def test_finishes_a_teardown_in_spite_of_a_signal(shell: Shell) -> None:
    shell.world.slow_down(0)
    shell.apply()
    shell.world.slow_down(0.08)
    process = shell.spawn("destroy", "implementer", "--yes")
    shell.wait_for("undo_intent")
    process.send_signal(signal.SIGINT)
    ended = shell.finish(process)
    assert "SIGINT: the current step is finished, then the teardown goes on to its end." in ended.err
    assert ended.code == 0
    assert outcome(shell) == "torn_down"


def test_survives_a_closed_terminal(shell: Shell) -> None:
    shell.world.slow_down(0.03)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [PROGRAM, "apply", str(shell.manifest), "implementer"],
        env=shell.env,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        text=True,
    )
    os.close(writer)
    shell.wait_for("step_done")
    os.close(reader)
    assert process.wait(timeout=60) == 0
    assert outcome(shell) == "ready"
