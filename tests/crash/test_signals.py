"""Ctrl-C once and twice, SIGTERM, SIGHUP and a closed terminal, in every state: said, recorded, and gone on with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bottle_fsm.machine.definition import Definition
from bottle_fsm.runner.registry import load_definition
from cli_shell import PROGRAM, Shell
from crash_place import unmeasured

HERE = Path(__file__).parent
MODES = {"int", "twice", "term", "hup"}


def triggers(definition: Definition) -> list[str]:
    """The transitions of a launch, in order."""
    found, state = [], definition.initial
    while (transition := definition.forward(state)) is not None:
        found.append(transition.trigger)
        state = transition.dest
    return found


UP = triggers(load_definition())
MET = {
    "launch": {(trigger, mode) for trigger in UP for mode in {*MODES, "keep"}},
    "repair": {(trigger, mode) for trigger in ("repair", *UP[2:]) for mode in MODES},
    "teardown": {
        (trigger, mode) for trigger in ("tear_down", "start_agent", "start_mitm", "start_proxies") for mode in MODES
    },
}


@pytest.mark.parametrize("scenario", sorted(MET))
def test_ends_as_promised_after_a_signal_anywhere(scenario: str) -> None:
    command = [sys.executable, str(HERE / "signal_sweep.py"), "--scenario", scenario, "--every", "2"]
    done = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=False, timeout=300)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case for case in cases if case["wrong"]] == [], done.stderr
    assert done.returncode == 0, done.stderr
    met = {(case["trigger"], case["mode"]) for case in cases if "intent.after" in case["point"]}
    assert met >= MET[scenario]
    assert {case["then"] for case in cases} == {"resume", "destroy"}


def _until(trace: Path, point: str, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if trace.exists() and point in trace.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{point} was not reached")


@pytest.mark.parametrize("number", range(1, len(UP) + 1), ids=UP)
def test_keeps_a_launch_whose_terminal_was_closed(number: int, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    trace, point = tmp_path / "trace", f"intent.after#{number}"
    armed = {"BOTTLE_FSM_FAILPOINT": f"{point}=sleep:0.5", "BOTTLE_FSM_FAILPOINT_TRACE": str(trace)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, [PROGRAM, "apply", str(shell.manifest), "implementer"], {**shell.env, **armed})
    try:
        _until(trace, f" {point} {UP[number - 1]}")
    finally:
        os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = shell.run("status", "--json").objects[0]
    transition = load_definition().transition(UP[number - 1])
    stepless = transition.trigger in {"validate", "plan"}  # these have no sub-step to stop at: they are finished
    assert (code, left["outcome"]) == (129, "interrupted")
    assert left["state"] == (transition.dest if stepless else transition.source[0])
    assert shell.run("audit", "verify").code == 0
    before = {o.id for o in shell.world.objects() if o.state != "created"}
    if number % 2:
        assert shell.run("resume", "implementer").code == 0
        assert before <= set(shell.ids())
        assert len(shell.ids()) == 6
    else:
        assert shell.run("destroy", "implementer").code == 0
        assert shell.ids() == []
