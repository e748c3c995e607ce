"""`logs --egress` and the counts of `status`: while the bottle runs, beside a launch, and when it is gone."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.traffic import collect
from bottle_fsm.traffic.paths import paths_of
from bottle_fsm.traffic.record import opened
from cli_shell import PROGRAM, Shell, converse
from traffic.traffic_bench import decision

GONE = "logs", "implementer", "--egress"


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


def numbers(out: str) -> list[Any]:
    return [json.loads(line)["bytes"] for line in out.splitlines()]


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def record_files(shell: Shell) -> list[str]:
    return sorted(p.name.partition(".")[2] for p in (shell.state / "egress").rglob("*") if p.is_file())


def test_shows_the_last_decisions_of_both_sidecars_as_json_lines(shell: Shell) -> None:
    shell.say("interceptor", decision(1), b"not a decision", decision(3))
    shell.say("guard", decision(2, event="tunnel_open"))
    assert numbers(shell.run(*GONE).out) == [1, 2, 3]
    assert numbers(shell.run(*GONE, "--tail", "2").out) == [2, 3]
    assert numbers(shell.run(*GONE, "--role", "interceptor").out) == [1, 3]
    assert numbers(shell.run(*GONE, "--role", "guard", "--tail", "1").out) == [2]


def test_shows_people_a_line_of_text_without_any_control_character(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bottle_fsm.cli.verbs.logs.on_terminal", lambda: True)
    hostile: Any = {"host": "evil\x1b[31m\u202e.test", "path": "/a\nb", "action": "deny", "reason": "not_listed"}
    shell.say("interceptor", decision(1, method="GET", **hostile, findings=["a", "b"], ms=1.5))
    shell.say("guard", b'{"time": "2026-05-01T00:00:09Z", "event": "dropped", "lines": 7}')
    first, second = shell.run(*GONE).out.splitlines()
    assert first == (
        "2026-05-01T00:00:01Z  deny    GET  evil\\x1b[31m\\u202e.test:443/a\\nb  not_listed  a, b  1 B  1.5 ms"
    )
    assert second == "2026-05-01T00:00:09Z  … 7 lines of the guard had no room and are lost"
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.forget_said(guard.id, len(shell.world.log(guard.labels["bottle-fsm.launch"], "guard")))
    shell.world.say(guard.id, decision(20, event="tunnel_open", by="guard").decode() + "\n")
    *_, third, fourth = shell.run(*GONE).out.splitlines()
    assert third == "2026-05-01T00:00:20Z  … what the guard wrote before this was lost before it could be collected"
    assert fourth == "2026-05-01T00:00:20Z  allow   [guard tunnel_open]  h20.test:443  20 B  0.0 ms"


def test_keeps_them_when_the_bottle_is_gone_and_needs_no_engine_then(shell: Shell) -> None:
    shell.say("interceptor", decision(1), decision(2))
    shell.run("destroy", "implementer", "--yes")
    (shell.state / "fake-world.json").unlink()
    assert numbers(shell.run(*GONE).out) == [1, 2]
    assert numbers(shell.run(*GONE, "-f").out) == [1, 2], "there is nothing more to follow"
    (found,) = shell.run("status", "--json").objects
    assert (found["egress"]["allow"], found["egress"]["deny"], found["egress"]["error"]) == (2, 0, 0)


def test_keeps_them_of_a_launch_that_was_interrupted(shell: Shell) -> None:
    shell.run("destroy", "implementer", "--yes")
    shell.goes_wrong("start", "exits", "agent")
    shell.apply("--on-failure", "keep")
    shell.say("interceptor", decision(5))
    assert shell.run("status", "--json").objects[0]["outcome"] == "failed"
    assert numbers(shell.run(*GONE).out) == [5]


def test_says_when_nothing_was_decided(shell: Shell) -> None:
    ended = shell.run(*GONE)
    assert (ended.code, ended.out, ended.err) == (0, "", "demo/implementer: nothing was decided yet\n")
    assert not (shell.state / "egress").exists()


def test_shows_what_is_kept_although_the_engine_does_not_answer(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    shell.goes_wrong("logs", "unavailable")
    ended = shell.run(*GONE)
    assert (ended.code, ended.out) == (1, "")
    assert "decisions cannot be collected: the simulated engine does not answer" in ended.err
    assert numbers(shell.run(*GONE).out) == [1]
    shell.goes_wrong("logs", "unavailable")
    ended = shell.run(*GONE)
    assert (ended.code, numbers(ended.out)) == (0, [1])
    assert ended.err == "note: the newest decisions cannot be collected: the simulated engine does not answer\n"


def test_shows_what_is_kept_although_another_engine_answers(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    shell.run(*GONE)
    shell.world.restart(identity=True)
    ended = shell.run(*GONE)
    assert (ended.code, numbers(ended.out)) == (0, [1])
    assert ended.err.startswith("note: the newest decisions cannot be collected: another engine answers")


def test_says_how_many_lines_had_no_room(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottle_fsm.traffic.record.LIMIT", 500)
    monkeypatch.setattr("bottle_fsm.traffic.record.SLICE", 1)
    shell.say("interceptor", *(decision(n) for n in range(8)))
    ended = shell.run(*GONE)
    assert numbers(ended.out) == [4, 5, 6, 7]
    assert ended.err == "note: 4 earlier lines had no room in the record and are gone\n"
    assert record_files(shell) == ["json", "jsonl", "jsonl.1"]
    assert shell.run("status", "--json").objects[0]["egress"]["allow"] == 8


@contextmanager
def following(shell: Shell) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Follow into a file for the time of the body; standard error goes beside it."""
    out = shell.place / "followed"
    with out.open("wb") as file, out.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen([PROGRAM, *GONE, "-f"], env=shell.env, stdout=file, stderr=err)
    try:
        yield process, out
    finally:
        process.kill()
        process.wait()


def test_follows_until_the_bottle_is_torn_down(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    with following(shell) as (process, out):
        wait_for(lambda: numbers(out.read_text()) == [1])
        shell.say("interceptor", decision(2), decision(3))
        wait_for(lambda: numbers(out.read_text()) == [1, 2, 3])
        shell.say("interceptor", decision(4))
        shell.run("destroy", "implementer", "--yes")
        assert process.wait(20) == 0
        assert numbers(out.read_text()) == [1, 2, 3, 4]
        assert out.with_suffix(".err").read_text() == ""


def test_follows_until_ctrl_c(shell: Shell) -> None:
    shell.say("interceptor", decision(7, action="deny"))
    env = shell.env
    ended = converse([PROGRAM, *GONE, "-f"], env=env, answers={"h7.test:443": ""}, signum=signal.SIGINT)
    assert ended.code == 130
    assert "deny    h7.test:443" in ended.out
    assert ended.out.replace("\r", "").endswith("interrupted.\n")


def test_follows_a_launch_that_has_decided_nothing_yet_and_lets_go_when_another_takes_its_place(shell: Shell) -> None:
    with following(shell) as (process, out):
        time.sleep(1)
        shell.say("interceptor", decision(1))
        wait_for(lambda: numbers(out.read_text()) == [1])
        shell.run("destroy", "implementer", "--yes")
        shell.apply()
        assert process.wait(20) == 0


def test_says_once_that_the_engine_does_not_answer_while_it_follows(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    with following(shell) as (process, out):
        wait_for(lambda: numbers(out.read_text()) == [1])
        found = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "interceptor")
        shell.goes_wrong("logs", "unavailable", times=3)
        shell.world.say(found.id, decision(2).decode() + "\n")
        wait_for(lambda: numbers(out.read_text()) == [1, 2])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    note = "note: the newest decisions cannot be collected: the simulated engine does not answer\n"
    assert out.with_suffix(".err").read_text() == f"{note}interrupted.\n"


def test_is_brought_out_before_a_sidecar_is_made_again(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    shell.world.stop(next(o.id for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "interceptor"))
    shell.apply()
    shell.say("interceptor", decision(2))
    shell.manifest.write_text(shell.manifest.read_text().replace("example.org", "example.com"))
    shell.apply()
    shell.say("interceptor", decision(30))
    assert numbers(shell.run(*GONE).out) == [1, 2, 30]


def test_is_collected_by_whoever_looks_at_a_running_bottle(shell: Shell) -> None:
    for number, words in enumerate((("apply", shell.manifest, "implementer"), ("resume", "implementer")), 1):
        shell.say("interceptor", decision(number))
        assert "unchanged" in shell.run(*words).err
        assert shell.run("status", "--json").objects[0]["egress"]["allow"] == number
    shell.say("interceptor", decision(3), decision(4, action="deny"), decision(5, action="error"))
    assert shell.run("status", "--json").objects[0]["egress"]["deny"] == 0, "status alone reads the store only"
    (found,) = shell.run("status", "--json", "--drift").objects
    assert {k: v for k, v in found["egress"].items() if k != "as_of"} == {"allow": 3, "deny": 1, "error": 1}
    assert found["egress"]["as_of"].startswith("20")
    row = shell.run("status").out.splitlines()[1].split()
    assert row[5:7] == ["3", "1"]
    assert "requests:    3 allowed, 1 denied, 1 undecided or not sent, as of 20" in shell.run("status", "impl").out


def test_says_in_status_and_in_the_journal_why_it_could_not_be_collected(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.say("interceptor", decision(1))
    shell.goes_wrong("logs", "unavailable")
    out = shell.run("status", "--drift").out
    assert "demo/implementer: the newest decisions cannot be collected: the simulated engine does not answer" in out
    assert "no drift" in out
    shell.goes_wrong("logs", "refuse", times=9)
    shell.goes_wrong("logs", "unavailable", times=9)
    ended = shell.run("destroy", "implementer", "--yes")
    assert ended.code == 0, "a record that cannot be had keeps no bottle from going"
    assert "what the interceptor decided could not be collected: the simulated engine does not answer" in ended.err
    events = [e for e in shell.run("audit", "implementer", "--json").objects if e["type"] == "event"]
    told = [e["evidence"]["decisions"] for e in events if e["evidence"].get("step") == "remove interceptor"]
    problem = {"lines": 0, "problem": "the simulated engine does not answer"}
    assert told == [problem, problem], "in the intent and in the outcome"


def test_says_in_the_journal_how_many_lines_were_brought_out(shell: Shell) -> None:
    shell.say("interceptor", decision(1), decision(2))
    shell.say("guard", decision(3, event="tunnel_open"))
    shell.run("destroy", "implementer", "--yes")
    events = [e for e in shell.run("audit", "implementer", "--json").objects if e["type"] == "event"]
    done = {e["evidence"]["step"]: e["evidence"] for e in events if e["kind"] == "step_done"}
    assert done["remove interceptor"]["decisions"] == {"lines": 2}
    assert done["remove guard"]["decisions"] == {"lines": 1}
    assert "decisions" not in done["remove agent"]


def test_holds_no_teardown_up_for_long(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.say("interceptor", decision(1))
    shell.run(*GONE)
    monkeypatch.setattr("bottle_fsm.runner.steps.SECONDS", 0.3)
    slug = next((shell.state / "egress").iterdir()).name
    launch = shell.run("status", "--json").objects[0]["launch"]
    with opened(paths_of(shell.state, slug, launch), seconds=1):
        started = time.monotonic()
        assert shell.run("destroy", "implementer", "--yes").code == 0
        assert time.monotonic() - started < 5
    assert collect.SECONDS == 10


def test_garbage_collection_brings_out_and_keeps_what_there_is(shell: Shell) -> None:
    shell.say("interceptor", decision(1))
    launch = shell.run("status", "--json").objects[0]["launch"]
    labels = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard").labels
    shell.run("destroy", "implementer", "--yes")
    late = shell.world.create("container", "claude-bottle-late", labels)
    shell.world.say(late, f"{json.dumps({'event': 'startup'})}\n{decision(9, event='tunnel_open').decode()}\n")
    shell.apply()
    assert shell.run("gc", "--yes").code == 0
    (kept,) = (shell.state / "egress").rglob(f"{launch}.jsonl")
    assert [json.loads(line)["bytes"] for line in kept.read_text().splitlines()] == [1, 9]


@pytest.mark.parametrize("point", ["step.intent.before", "step.intent.after", "step.acted"])
def test_loses_and_doubles_nothing_when_a_launcher_is_killed_between_collecting_and_removing(
    shell: Shell, point: str
) -> None:
    shell.say("interceptor", decision(1), decision(2))
    trace = shell.place / "trace"
    shell.env["BOTTLE_FSM_FAILPOINT_TRACE"] = str(trace)
    shell.ended("status")
    number = {"step.intent.before": 2, "step.intent.after": 2, "step.acted": 2}[point]
    shell.env["BOTTLE_FSM_FAILPOINT"] = f"{point}#{number}=kill"
    assert shell.ended("destroy", "implementer", "--yes").code == -signal.SIGKILL
    assert trace.read_text().splitlines()[-1].endswith(f"{point}#{number} remove interceptor")
    del shell.env["BOTTLE_FSM_FAILPOINT"], shell.env["BOTTLE_FSM_FAILPOINT_TRACE"]
    if point != "step.acted":
        shell.say("interceptor", decision(3))
    wanted = [1, 2, 3] if point != "step.acted" else [1, 2]
    assert shell.ended("destroy", "implementer", "--yes").code == 0
    assert numbers(shell.ended(*GONE).out) == wanted
