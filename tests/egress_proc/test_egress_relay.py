"""The relay for declared raw TCP: ssh to exactly the declared destination, and nothing else."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress import files
from egress_proc.egress_sidecars import (
    RELAY_PORT,
    Stack,
    World,
    placed,
    python_argv,
    read_answer,
    start,
    wait_for,
    write_sealed,
)

BANNER = b"SSH-2.0-TestClient\r\n"


def relay(stack: Stack, target: str) -> tuple[socket.socket, int]:
    sock, answer = stack.connect(target, RELAY_PORT)
    assert answer is not None
    return sock, answer.status


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(4096)):
        data += more
    return data


def last_decision(stack: Stack, reason: str) -> dict[str, Any]:
    found = wait_for(
        lambda: [line for line in stack.decisions if line.get("by") == "relay" and line["reason"] == reason],
        what=f"a decision of the relay with the reason {reason}",
    )
    assert isinstance(found, list)
    line = found[-1]
    assert isinstance(line, dict)
    return line


def test_relays_ssh_both_ways(stack: Stack, world: World) -> None:
    tunnels = stack.tunnels
    sock, status = relay(stack, "git.test:22022")
    with sock:
        assert status == 200
        assert receive(sock, 20) == b"SSH-2.0-TestServer\r\n"
        sock.sendall(BANNER + b"payload")
        assert receive(sock, len(BANNER) + 7) == BANNER + b"payload"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b""
    line = last_decision(stack, "end")
    assert (line["action"], line["rule"], line["sent"]) == ("allow", "ssh-tcp://git.test:22022", len(BANNER) + 7)
    assert stack.tunnels == tunnels + 1


def test_lets_no_byte_of_anything_else_than_ssh_to_the_server(stack: Stack, world: World) -> None:
    before = world.ssh.received
    sock, status = relay(stack, "git.test:22022")
    with sock:
        assert status == 200
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while sock.recv(4096):
            pass
    assert last_decision(stack, "not_ssh")["action"] == "deny"
    assert world.ssh.received == before


def test_lets_no_byte_of_a_server_that_is_not_ssh_to_the_agent(stack: Stack) -> None:
    sock, status = relay(stack, "git.test:22023")
    with sock:
        assert status == 200
        assert receive(sock, 100) == b""


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("git.test:22", 403, "not_listed"),
        ("allowed.test:443", 403, "protocol_not_allowed"),
        ("evil.test:22022", 403, "not_listed"),
        ("127.0.0.1:22022", 403, "host_not_a_name"),
        ("git.test", 403, "host_not_a_name"),
    ],
)
def test_refuses_other_destinations(stack: Stack, target: str, status: int, reason: str) -> None:
    tunnels = stack.tunnels
    sock, answer = stack.connect(target, RELAY_PORT)
    sock.close()
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert stack.tunnels == tunnels


def test_serves_nothing_but_connect(stack: Stack) -> None:
    answer = stack.plain("GET / HTTP/1.1\r\nHost: git.test\r\n\r\n", RELAY_PORT)
    assert answer is not None
    assert answer.status == 405
    for raw in (b"nonsense\r\n\r\n", b"CONNECT git.test:22022 HTTP/1.1\r\nX: " + b"y" * 200_000, b"CONNECT x"):
        broken = None
        with stack.dial(RELAY_PORT) as sock, contextlib.suppress(OSError):
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            broken = read_answer(sock)
        assert broken is None or broken.status == 400


def test_refuses_when_the_guard_is_gone(alone_interceptor: Stack) -> None:
    sock, answer = alone_interceptor.connect("git.test:22022", RELAY_PORT)
    sock.close()
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (502, "guard_unreachable")


@pytest.fixture(scope="module")
def alone_interceptor(sidecar_venv: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An interceptor without a guard, whose caps are small."""
    made = Stack(tmp_path_factory.mktemp("relay"), stack.policy, stack.authority)
    try:
        yield _start_with_caps(made, max_bytes=1000, max_seconds=2, idle_seconds=1, max_connections=2)
    finally:
        made.stop()


@pytest.fixture
def capped(alone_interceptor: Stack) -> Iterator[Stack]:
    """The interceptor with small caps, and its guard."""
    guard = alone_interceptor.start_guard()
    yield alone_interceptor
    guard.stop()


def _start_with_caps(stack: Stack, **caps: int) -> Stack:
    content = files.interceptor_files(stack.policy, listen=stack.host, guard=None, upstream_ca=b"")
    config = json.loads(content[files.INTERCEPTOR_CONFIG])
    config["relay_caps"] = caps
    content[files.INTERCEPTOR_CONFIG] = json.dumps(config).encode()
    where = stack.inner
    write_sealed(placed(content, where, stack.host), where)
    argv = [*python_argv("bottle_fsm.egress.interceptor"), "--config", str(where / "etc/interceptor.json")]
    env = {"BOTTLE_FSM_GUARD_URL": f"http://{stack.guard_host}:8888"}
    stack.interceptor = start(argv, stack.where, "interceptor", env=env)
    stack.await_interceptor()
    stack.deliver()
    return stack


def test_ends_a_tunnel_at_each_cap(capped: Stack) -> None:
    sock, _ = relay(capped, "git.test:22022")
    with sock:
        receive(sock, 20)
        sock.sendall(BANNER + bytes(2000))
        while sock.recv(4096):
            pass
    assert last_decision(capped, "byte_cap")["action"] == "allow"
    sock, _ = relay(capped, "git.test:22022")
    with sock:
        receive(sock, 20)
        sock.sendall(BANNER)
        receive(sock, len(BANNER))
        assert sock.recv(10) == b""
    assert last_decision(capped, "idle")
    sock, _ = relay(capped, "git.test:22022")
    with sock:
        receive(sock, 20)
        sock.sendall(BANNER)
        receive(sock, len(BANNER))
        sock.settimeout(0.4)
        for _ in range(20):
            try:
                sock.sendall(b"x")
                if not sock.recv(10):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
            time.sleep(0.3)
    assert last_decision(capped, "time_cap")


def test_limits_how_many_tunnels_are_open_at_once(capped: Stack) -> None:
    socks = [relay(capped, "git.test:22022")[0] for _ in range(2)]
    sock, answer = capped.connect("git.test:22022", RELAY_PORT)
    for each in (*socks, sock):
        each.close()
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (503, "too_many_connections")
