from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.errors import StepTimeoutError
from bottle_fsm.model import Launch
from bottle_fsm.places import CA_CERT_PATH
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.steps import Steps
from bottle_fsm.store.lock import BottleLock
from cli_shell import Shell

BOTTLE = "demo/implementer"
PROGRESS = f"""\
{BOTTLE}    … trust: every tool asks the gate
{BOTTLE}    … egress: allowed hosts are asked for, other ways out are tried
"""
TRUST = f"{BOTTLE}      trust              tool\n{BOTTLE}                 ok      simulated\n"
SELFTEST = f"""\
{BOTTLE}      self-test          probe             expected     got          ms
{BOTTLE}                 ok      agent's networks  inside only  inside only  0 ms
"""
FAILED = "1 of 2 rows failed: simulated: the agent has another certificate"
KEPT = f"It is left as it is: `bottle-fsm resume {BOTTLE}` mends drift, `bottle-fsm destroy {BOTTLE}` ends it"


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


def distrust(shell: Shell) -> None:
    """Give the agent another certificate than its interceptor's."""
    (agent,) = (o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "agent")
    FakeBottle(shell.world, agent.id, BOTTLE).copy_in(b"another", CA_CERT_PATH, owner="root")


def test_shows_the_tables_that_apply_shows(shell: Shell) -> None:
    shell.run("destroy", "implementer", "--yes")
    launched = shell.apply().err
    assert TRUST in launched
    assert SELFTEST in launched
    ended = shell.run("selftest", "implementer")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"{PROGRESS}{TRUST}{SELFTEST}{BOTTLE}: passed its self-test: no row failed\n"


def test_ends_with_1_and_names_the_row_that_failed(shell: Shell) -> None:
    before = shell.run("status", "--json").objects[0]
    distrust(shell)
    ids = shell.ids()
    ended = shell.run("selftest", "implementer")
    assert (ended.code, ended.out) == (1, "")
    failed = f"{BOTTLE}                 FAILED  simulated  the agent has another certificate\n"
    assert failed in ended.err
    assert SELFTEST in ended.err
    assert ended.err.endswith(f"error: {BOTTLE}: {FAILED}. {KEPT}.\n")
    after = shell.run("status", "--json").objects[0]
    assert {n for n in before if before[n] != after[n]} == {"epoch", "sequence", "observed_at"}
    assert shell.ids() == ids
    assert shell.run("resume", "implementer").code == 0
    assert shell.run("selftest", "implementer").code == 0


def test_prints_events_and_an_outcome_for_programs(shell: Shell) -> None:
    ended = shell.run("selftest", "implementer", "--json")
    header, event, last = ended.objects
    assert (header["command"], event["kind"]) == ("selftest", "observed")
    assert set(event["evidence"]) == {"trust_matrix", "selftest"}
    (row,) = last["bottles"]
    assert (last["outcome"], last["exit_code"], row["result"], row["outcome"]) == ("ok", 0, "proved", "ready")
    assert ended.err == PROGRESS
    distrust(shell)
    ended = shell.run("selftest", "implementer", "--json")
    last = ended.objects[-1]
    (row,) = last["bottles"]
    assert (ended.code, last["outcome"], last["exit_code"]) == (1, "gate", 1)
    assert (row["result"], row["state"], row["outcome"], row["left"]) == ("failed", "provisioned", "ready", "kept")
    assert row["error"] == {"code": "gate", "problem": FAILED, "place": BOTTLE, "hint": KEPT}


def test_keeps_what_was_found_for_an_audit(shell: Shell) -> None:
    shell.run("selftest", "implementer")
    distrust(shell)
    shell.run("selftest", "implementer")
    fine, wrong = shell.run("audit", "implementer", "--kind", "observed").out.splitlines()
    assert "  observed  self-test: no row of 2 failed  " in fine
    assert f"  observed  self-test: {FAILED}  gate  " in wrong
    _, first, second, _ = shell.run("audit", "implementer", "--kind", "observed", "--json").objects
    assert [e["evidence"]["trust_matrix"][0]["ok"] for e in (first, second)] == [True, False]
    assert shell.run("audit", "verify").code == 0


def test_logs_it_as_every_event(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell.run("selftest", "implementer", "--log-file", log)
    distrust(shell)
    ended = shell.run("selftest", "implementer", "--log-file", log, "--log", "json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["level"], line["cause"], line.get("error")) for line in lines] == [
        ("observed", "info", "self-test: no row of 2 failed", None),
        ("observed", "error", f"self-test: {FAILED}", "gate"),
    ]
    assert json.loads(ended.err.splitlines()[0]) == lines[1]


def test_says_that_nothing_is_tested_where_no_egress_is_controlled(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(name: str, reason: str) -> object:
        def method(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, steps: Steps) -> None:
            steps.skip(name, reason=reason)

        return method

    reasons: Mapping[str, str] = {"prove_trust": "this backend does not intercept TLS", "selftest": "no egress here"}
    for name, reason in reasons.items():
        monkeypatch.setattr(FakeBackend, name, skip(name, reason))
    ended = shell.run("selftest", "implementer")
    assert ended.code == 0
    assert ended.err == (
        f"{PROGRESS}{BOTTLE}  not tested: prove_trust: this backend does not intercept TLS\n"
        f"{BOTTLE}  not tested: selftest: no egress here\n{BOTTLE}: has nothing that could be tested\n"
    )
    assert shell.run("selftest", "implementer", "--json").objects[-1]["bottles"][0]["result"] == "untested"


def test_ends_with_1_when_it_could_not_be_tried(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_backend: FakeBackend, _plan: BottlePlan, _launch: Launch, _steps: Steps) -> None:
        raise StepTimeoutError("`sh` ran longer than 90 s and was killed inside", place="agent")

    monkeypatch.setattr(FakeBackend, "prove_trust", hang)
    ended = shell.run("selftest", "implementer")
    assert ended.code == 1
    assert f"error: {BOTTLE}: not everything could be tested: agent: `sh` ran longer than 90 s" in ended.err


def test_ends_with_1_for_a_bottle_that_is_not_there_or_not_up(shell: Shell, tmp_path: Path) -> None:
    ended = shell.run("selftest", "implementor")
    assert ended.code == 1
    assert ended.err == f"error: BOTTLE: there is no bottle `implementor`. Did you mean {BOTTLE}?\n"
    elsewhere = tmp_path / "elsewhere"
    assert shell.run("selftest", "implementer", "--state-dir", elsewhere).code == 1
    assert not elsewhere.exists()
    shell.run("destroy", "implementer", "--yes")
    ended = shell.run("selftest", "implementer")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {BOTTLE}: no launch of it is up, so there is nothing to test. `bottle-fsm app")


def test_ends_with_3_when_another_process_holds_the_lock(shell: Shell) -> None:
    with BottleLock(shell.state, BOTTLE, command="destroy"):
        ended = shell.run("selftest", "implementer")
    assert ended.code == 3
    assert re.match(rf"error: {BOTTLE}: held by pid \d+ \(destroy\)\. Wait for it, or give --lock-timeout", ended.err)
    assert shell.run("selftest", "implementer", "--lock-timeout", "5").code == 0


def test_ends_with_4_on_another_engine(shell: Shell) -> None:
    shell.world.restart(identity=True)
    ended = shell.run("selftest", "implementer")
    assert ended.code == 4
    assert f"error: {BOTTLE}: another engine answers" in ended.err


def test_shows_it_on_a_terminal(shell: Shell) -> None:
    ended = shell.on_terminal("selftest", "implementer")
    assert ended.code == 0
    assert "agent's networks  inside only  inside only  0 ms" in ended.out
    assert f"{BOTTLE}: passed its self-test: no row failed" in ended.out


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ends_without_a_result_after_a_key(shell: Shell, signum: int, code: int) -> None:
    before = shell.kinds()
    shell.world.slow_down(0.5)
    process = shell.spawn("selftest", "implementer")
    deadline = time.monotonic() + 30
    while shell.kinds() == before and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    ended = shell.finish(process)
    shell.world.slow_down(0)
    assert ended.code == code
    name = signal.Signals(signum).name
    assert f"{name}: the current step is finished, then the self-test ends, and the bottle stays as it is." in ended.err
    assert ended.err.endswith(f"error: stopped by signal {int(signum)}.\n    It was left as it is: ready.\n")
    assert shell.kinds() == [*before, "lock"]
    assert shell.run("selftest", "implementer").code == 0
