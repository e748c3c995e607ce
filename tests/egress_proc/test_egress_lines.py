"""The lines of running sidecars: every kind has the same fields, and nobody who does not read them stops a decision."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress.jsonlines import DECIDED, DECISION
from egress_proc.egress_sidecars import FAKE_GITHUB_TOKEN, GATE_HOST, RELAY_PORT, Process, Stack, wait_for

FIRST = ["time", "event", "bottle", "launch", "host", "port", "method", "path", "rule", "action"]
FLOOD = 200


def told(process: Process | None) -> list[dict[str, Any]]:
    assert process is not None
    return [line for line in process.lines() if line["event"] in DECIDED]


def test_writes_the_same_fields_in_every_line_whatever_it_is_about(stack: Stack) -> None:
    stack.get("allowed.test", "/all?is=well")
    stack.get(GATE_HOST)
    stack.get("localhost")
    stack.get("dead.test", port=9444)
    stack.get("allowed.test", f"/{FAKE_GITHUB_TOKEN}")
    stack.post("allowed.test", FAKE_GITHUB_TOKEN.encode())
    stack.plain(b"GET http://allowed.test/plain HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    for target, port in (("evil.test:443", 8080), ("git.test:22022", RELAY_PORT), ("evil.test:22", RELAY_PORT)):
        stack.connect(target, port)[0].close()
    with contextlib.suppress(OSError, AssertionError), stack.tunnel("allowed.test:443", sni="evil.test"):
        pass
    sock, _ = stack.connect("allowed.test:443")
    with sock:
        sock.sendall(b"SSH-2.0-not-tls\r\n")
        sock.recv(1)
    wait_for(lambda: {line.get("by") for line in told(stack.interceptor)} >= {"interceptor", "guard", "relay"})
    wait_for(lambda: {line["event"] for line in told(stack.guard)} >= {"tunnel_open", "tunnel_close", "blocked"})
    lines = [*told(stack.interceptor), *told(stack.guard)]
    for line in lines:
        assert list(line)[: len(FIRST)] == FIRST
        assert DECISION.keys() <= line.keys()
        assert (line["bottle"], line["launch"]) == ("demo/implementer", "launch-1")
        assert {name for name in DECISION if type(line[name]) is not type(DECISION[name])} <= {"ms"}
        assert isinstance(line["ms"], int | float)
        assert line["action"] in {"allow", "deny", "answer", "error", "close"}
        assert "?" not in line["path"]
    assert FAKE_GITHUB_TOKEN not in json.dumps(lines)
    refused = next(line for line in lines if line["host"] == "evil.test" and line["by"] == "interceptor")
    assert refused["ms"] > 0


@pytest.mark.parametrize("role", ["guard", "interceptor"])
def test_decides_on_although_nobody_reads_its_lines(fresh: Stack, stack: Stack, role: str) -> None:
    pipe = fresh.where / f"{role}.out"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 8192)
    targets = [f"refused-{number}.test" for number in range(FLOOD)]
    if role == "guard":
        fresh.start_guard()
        for target in targets:
            assert _asked_guard(fresh, target) == 403
        process = fresh.guard
    else:
        fresh.guard_host = stack.guard_host
        process = fresh.start_interceptor()
        for target in targets:
            sock, answer = fresh.connect(f"{target}:443")
            sock.close()
            assert answer is not None
            assert answer.status == 403
    lines = _read(reader, FLOOD)
    assert [line["host"] for line in lines if line["event"] in DECIDED] == targets
    assert process is not None
    process.out = Path(os.devnull)
    assert process.stop() == 0
    os.close(reader)


def _asked_guard(stack: Stack, host: str) -> int:
    from egress_proc.test_egress_guard import tunnel  # noqa: PLC0415 - one helper of the other suite

    sock, answer = tunnel(stack, f"{host}:443")
    sock.close()
    assert answer is not None
    return answer.status


def _read(reader: int, count: int) -> list[dict[str, Any]]:
    """Read until so many lines about connections came."""
    data = b""

    def more() -> bool:
        nonlocal data
        with contextlib.suppress(BlockingIOError):
            data += os.read(reader, 1 << 16)
        return sum(line.count(b'"action"') for line in data.splitlines(keepends=True) if line.endswith(b"\n")) >= count

    wait_for(more, what="all lines")
    return [json.loads(line) for line in data.splitlines()]
