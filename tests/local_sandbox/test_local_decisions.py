"""Decisions of real sidecars: collected beside a made-up internet, followed, and kept when the bottle is gone."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress.jsonlines import DECISION
from e2e_bench import simple, wait_for
from near_world import NearBench, near_world

GUEST = "trial/guest"
HEAD = ["time", "source", "event", "bottle", "launch", *DECISION]


@pytest.fixture(scope="module", name="near")
def _near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NearBench]:
    if os.geteuid() != 0:
        pytest.skip("only root can make an internet of his own")
    with near_world(tmp_path_factory.mktemp("near")) as world:
        bench = NearBench(tmp_path_factory.mktemp("decisions"), world)
        try:
            launch(bench)
            yield bench
        finally:
            bench.clean()


def launch(near: NearBench) -> None:
    egress = near.world.egress("web", "denied", allow=[near.world.name("web")])
    near.ok("apply", near.write({**simple(egress=egress), "backend": "local"}))


def ask(near: NearBench, label: str, path: str) -> str:
    url = f"https://{near.world.name(label)}{path}"
    return near.inside(GUEST, f"curl -sS -m 15 -o /dev/null -w '%{{http_code}} %{{http_connect}}' '{url}'").out


def a_path() -> str:
    return f"/{secrets.token_hex(8)}"


def decisions(near: NearBench, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in near.ok("logs", GUEST, "--egress", *words).out.splitlines()]


def about(lines: list[dict[str, Any]], path: str) -> list[tuple[str, str]]:
    return [(line["source"], line["action"]) for line in lines if line.get("path") == path]


def test_shows_what_was_allowed_and_what_was_denied_with_the_same_fields(near: NearBench) -> None:
    path = a_path()
    assert ask(near, "web", f"{path}?word=secret") == "200 200"
    assert ask(near, "denied", path).endswith("403")
    lines = decisions(near, "--tail", "1000")
    assert about(lines, path) == [("interceptor", "allow")]
    refused = [line for line in lines if line["host"] == near.world.name("denied")]
    assert [(line["method"], line["action"], line["reason"]) for line in refused] == [("CONNECT", "deny", "not_listed")]
    opened = [line for line in lines if (line["source"], line["event"]) == ("guard", "tunnel_open")]
    assert opened
    assert {(line["host"], line["action"]) for line in opened} == {(near.world.name("web"), "allow")}
    for line in lines:
        assert list(line)[: len(HEAD)] == HEAD
        assert (line["bottle"], line["launch"]) == (GUEST, near.status(GUEST)["launch"])
    assert "secret" not in json.dumps(lines)


def test_counts_them_in_status_and_suggests_a_rule(near: NearBench) -> None:
    before = _counts(near)
    assert ask(near, "web", a_path()) == "200 200"
    ask(near, "denied", a_path())
    after = _counts(near)
    assert (after["allow"], after["deny"], after["error"]) == (before["allow"] + 1, before["deny"] + 1, before["error"])
    assert f"  - {near.world.name('denied')}  # " in near.ok("policy", "suggest", GUEST).out
    assert "unchanged" in near.ok("resume", GUEST).err


def _counts(near: NearBench) -> dict[str, Any]:
    (found,) = near.ok("status", GUEST, "--json", "--drift").out.splitlines()
    counts = json.loads(found)["egress"]
    assert isinstance(counts, dict)
    return counts


def test_follows_what_comes(near: NearBench, tmp_path: Path) -> None:
    out, paths = tmp_path / "out", [a_path() for _ in range(3)]
    with out.open("w") as file:
        process = near.spawn("logs", GUEST, "--egress", "-f", "--tail", "1", stdout=file)
    try:
        wait_for(out.read_text, what="the last line")
        for path in paths:
            assert ask(near, "web", path) == "200 200"
        wait_for(lambda: paths[-1] in out.read_text(), what="the newest line")
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["path"] for line in lines if line.get("path") in paths] == paths
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()


def test_says_so_when_the_supervisor_threw_the_beginning_of_a_log_away(near: NearBench) -> None:
    assert ask(near, "web", a_path()) == "200 200"
    decisions(near)
    log = next(iter(near.state.glob("local/*mitm*/log")))
    with log.open("ab") as file:
        file.write((b"x" * 1023 + b"\n") * (5 << 10))
    wait_for(lambda: log.stat().st_size < 3 << 20, what="the log to be cut")
    path = a_path()
    assert ask(near, "web", path) == "200 200"
    events = [(line["source"], line["event"]) for line in decisions(near, "--tail", "4")]
    assert ("interceptor", "gap") in events
    assert about(decisions(near), path) == [("interceptor", "allow")]


def test_keeps_every_line_once_when_the_launcher_is_killed_between_collecting_and_removing(near: NearBench) -> None:
    path, later = a_path(), a_path()
    assert ask(near, "web", path) == "200 200"
    trace = near.place / "trace"
    near.env |= {"BOTTLE_FSM_FAILPOINT": "step.intent.after#2=kill", "BOTTLE_FSM_FAILPOINT_TRACE": str(trace)}
    assert near.run("destroy", GUEST, "--yes").code == -signal.SIGKILL
    assert trace.read_text().splitlines()[-1].endswith("step.intent.after#2 remove interceptor")
    del near.env["BOTTLE_FSM_FAILPOINT"], near.env["BOTTLE_FSM_FAILPOINT_TRACE"]
    (record,) = near.state.rglob("*.jsonl")
    assert about([json.loads(line) for line in record.read_text().splitlines()], path) == [("interceptor", "allow")]
    _through_the_interceptor(near, later)
    near.ok("destroy", GUEST, "--yes")
    assert list(near.state.glob("local/*")) == []
    lines = decisions(near, "--tail", "1000")
    assert about(lines, path) == [("interceptor", "allow")]
    assert [line["host"] for line in lines if line.get("host", "").startswith("after-")] == [f"after-{later[1:]}.test"]
    assert len(lines) == len(record.read_text().splitlines())
    done = [e for e in near.events(GUEST) if e["kind"] == "step_done" and e["evidence"]["step"] == "remove guard"]
    assert done[-1]["evidence"]["decisions"]["lines"] >= 0
    assert "problem" not in done[-1]["evidence"]["decisions"]
    launch(near)


def _through_the_interceptor(near: NearBench, path: str) -> None:
    """Ask for a host without a rule, from this machine: the agent is gone."""
    (door,) = near.state.glob("local/*-net-*/*/proxy.sock")
    host = f"after-{path[1:]}.test"
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]);"
        "s.sendall(f'CONNECT {sys.argv[2]}:443 HTTP/1.1\\r\\nHost: {sys.argv[2]}:443\\r\\n\\r\\n'.encode());"
        "print(s.recv(100).split()[1].decode())"
    )
    # from its own directory: the path of a socket has 108 bytes
    command = ["python3", "-c", script, door.name, host]
    done = subprocess.run(command, cwd=door.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "403"
