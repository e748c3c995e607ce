"""The built-in guard by itself: its two ports, spoken to directly."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import pytest

from bottle_fsm.egress.jsonlines import DECISION
from egress_proc.egress_sidecars import (
    FAKE_GITHUB_TOKEN,
    GUARD_PORT,
    PROXY_TOKEN,
    SCAN_PORT,
    SCAN_TOKEN,
    Answer,
    Stack,
    World,
    loopback,
    read_answer,
    wait_for,
)


def ask(stack: Stack, raw: bytes | str, port: int = GUARD_PORT) -> Answer | None:
    with socket.create_connection((stack.guard_host, port), timeout=10) as sock:
        sock.sendall(raw.encode() if isinstance(raw, str) else raw)
        return read_answer(sock)


def tunnel(stack: Stack, target: str, *, token: str | None = None) -> tuple[socket.socket, Answer | None]:
    sock = socket.create_connection((stack.guard_host, GUARD_PORT), timeout=15)
    shown = PROXY_TOKEN.reveal() if token is None else token
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nProxy-Authorization: Bearer {shown}\r\n\r\n".encode())
    return sock, read_answer(sock)


def scan(
    stack: Stack, question: Any, *, token: str | None = None, method: str = "POST", path: str = "/api/v1/scan"
) -> Answer:
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    shown = SCAN_TOKEN.reveal() if token is None else token
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {shown}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = ask(stack, head.encode() + body, SCAN_PORT)
    assert answer is not None
    return answer


def test_answers_its_health(stack: Stack) -> None:
    answer = ask(stack, "GET /health HTTP/1.1\r\n\r\n")
    assert answer is not None
    assert (answer.status, answer.json["status"]) == (200, "healthy")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 405), ("GET /stats HTTP/1.1\r\n\r\n", 405), ("GET /metrics HTTP/1.1\r\n\r\n", 405),
        ("POST /health HTTP/1.1\r\n\r\n", 405), ("GET http://allowed.test/ HTTP/1.1\r\n\r\n", 405),
        ("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n", 407), ("nonsense\r\n\r\n", 400),
        ("A B C\r\nno colon\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_answers_nothing_else_on_its_proxy_port(stack: Stack, raw: str, status: int) -> None:
    answer = ask(stack, raw)
    assert answer is not None
    assert answer.status == status


def test_does_not_listen_on_every_address(stack: Stack) -> None:
    for port in (GUARD_PORT, SCAN_PORT):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((loopback(), port), timeout=2).close()


@pytest.mark.parametrize(
    ("target", "token", "status", "reason"),
    [
        ("allowed.test:443", "wrong", 407, "token_missing_or_wrong"),
        ("allowed.test:443", "", 407, "token_missing_or_wrong"),
        ("evil.test:443", None, 403, "not_listed"),
        ("allowed.test:8443", None, 403, "not_listed"),
        ("127.0.0.1:443", None, 403, "host_not_a_name"),
        ("allowed.test", None, 403, "host_not_a_name"),
        ("localhost:443", None, 403, "ssrf_private_address"),
        ("nowhere.wild.test:443", None, 502, "dns_unresolved"),
        ("dead.test:9444", None, 502, "upstream_unreachable"),
    ],
)
def test_refuses_a_connect(  # noqa: PLR0917 - the columns of a table
    stack: Stack, world: World, target: str, token: str | None, status: int, reason: str
) -> None:
    connections = world.allowed.connections
    sock, answer = tunnel(stack, target, token=token)
    sock.close()
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert stack.guard is not None
    assert stack.guard.lines("blocked")[-1]["reason"] == reason
    assert world.allowed.connections == connections


@pytest.mark.parametrize(
    ("target", "first", "reason"),
    [
        ("allowed.test:443", b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "not_tls_for_a_name"),
        ("allowed.test:443", b"\x16\x03", "not_tls"),
        ("allowed.test:443", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "not_tls_for_a_name"),
        ("allowed.test:80", b"\x16\x03\x01\x00\x05hello\r\n\r\n", "not_http"),
        ("allowed.test:80", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "host_mismatch"),
        ("allowed.test:80", b"GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: allowed.test\r\n\r\n", "not_http"),
        ("git.test:22022", b"EXFILTRATE", "not_ssh"),
        ("git.test:22022", b"SSH-1.5-x\r\n", "not_ssh"),
        ("git.test:22022", b"SS", "not_ssh"),
    ],
)
def test_lets_no_first_byte_through_that_is_not_what_the_rule_says(
    stack: Stack, world: World, target: str, first: bytes, reason: str
) -> None:
    before = len(world.allowed.requests), len(world.plain.requests), world.ssh.received
    sock, answer = tunnel(stack, target)
    assert answer is not None
    assert answer.status == 200
    with sock:
        sock.sendall(first)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
    assert stack.guard is not None
    closed = wait_for(lambda: stack.guard and [x for x in stack.guard.lines("tunnel_close") if x["reason"] == reason])
    assert f"{closed[-1]['host']}:{closed[-1]['port']}" == target
    assert (len(world.allowed.requests), len(world.plain.requests), world.ssh.received) == before


@pytest.mark.parametrize("name", ["a.wild.test", "evil.test", None])
def test_checks_the_server_name_of_the_tls_inside(stack: Stack, world: World, name: str | None) -> None:
    before = len(world.allowed.requests)
    sock, answer = tunnel(stack, "allowed.test:443")
    assert answer is not None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with sock, pytest.raises(OSError, match=r""".+"""):
        context.wrap_socket(sock, server_hostname=name).close()
    assert len(world.allowed.requests) == before


def test_passes_tls_for_the_right_name_and_counts_its_bytes(stack: Stack, world: World) -> None:
    before = len(world.allowed.requests)
    sock, answer = tunnel(stack, "allowed.test:443")
    assert answer is not None
    context = ssl.create_default_context(cadata=stack.authority.pem.decode())
    with sock, context.wrap_socket(sock, server_hostname="allowed.test") as wrapped:
        wrapped.sendall(b"GET /direct HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        served = read_answer(wrapped)
    assert served is not None
    assert served.status == 200
    assert len(world.allowed.requests) == before + 1
    assert stack.guard is not None
    opened = stack.guard.lines("tunnel_open")[-1]
    closed = wait_for(
        lambda: (
            stack.guard and [x for x in stack.guard.lines("tunnel_close") if x["request_id"] == opened["request_id"]]
        )
    )[0]
    assert closed["bytes"] == closed["sent"] + closed["received"] > 1000
    assert (closed["action"], closed["ms"] >= opened["ms"] > 0) == ("close", True)
    assert (opened["action"], opened["rule"]) == ("allow", "https://allowed.test:443")
    for line in (opened, closed):
        assert list(line)[:6] == ["time", "event", "bottle", "launch", "host", "port"]
        assert DECISION.keys() <= line.keys()
        assert (line["bottle"], line["launch"], line["by"]) == ("demo/implementer", "launch-1", "guard")
        assert (line["host"], line["port"]) == ("allowed.test", 443)


def test_is_quiet_about_a_connection_without_a_request(stack: Stack) -> None:
    assert stack.guard is not None
    before = len(stack.guard.lines())
    socket.create_connection((stack.guard_host, GUARD_PORT), timeout=5).close()
    sock, _ = tunnel(stack, "allowed.test:443")
    sock.close()
    wait_for(lambda: stack.guard and stack.guard.lines("tunnel_close"))
    assert not [line for line in stack.guard.lines()[before:] if line["event"] in {"blocked", "error"}]


@pytest.mark.parametrize(
    ("kind", "field", "value", "decision", "rules"),
    [
        ("url", "url", "https://allowed.test/", "allow", []),
        ("url", "url", "https://nowhere.wild.test/", "allow", ["dns_unresolved"]),
        ("url", "url", "https://evil.test/", "deny", ["not_listed"]),
        ("url", "url", "http://allowed.test:8080/", "deny", ["not_listed"]),
        ("url", "url", "ftp://allowed.test/", "deny", ["url_malformed"]),
        ("url", "url", "https://127.0.0.1/", "deny", ["url_malformed"]),
        ("url", "url", "https://allowed.test:x/", "deny", ["url_malformed"]),
        ("url", "url", "https://localhost/", "deny", ["ssrf_private_address"]),
        ("url", "url", f"https://allowed.test/?t={FAKE_GITHUB_TOKEN}", "deny", ["github_token"]),
        ("dlp", "text", "nothing here", "allow", []),
        ("dlp", "text", f"x {FAKE_GITHUB_TOKEN} y", "deny", ["github_token"]),
        ("dlp", "text", "-----BEGIN OPENSSH PRIVATE KEY-----", "deny", ["private_key"]),
        ("dlp", "text", "key AKIAABCDEFGHIJKLMNOP", "deny", ["aws_access_key"]),
        ("dlp", "text", "glpat-abcdefghij1234567890", "deny", ["gitlab_token"]),
    ],
)
def test_scans(  # noqa: PLR0917 - the columns of a table
    stack: Stack, kind: str, field: str, value: str, decision: str, rules: list[str]
) -> None:
    answer = scan(stack, {"kind": kind, "input": {field: value}, "context": {"request_id": "r-1"}})
    assert answer.status == 200
    assert {name: answer.json[name] for name in ("status", "decision", "kind", "request_id")} == {
        "status": "completed", "decision": decision, "kind": kind, "request_id": "r-1",
    }  # fmt: skip
    assert [finding["rule_id"] for finding in answer.json["findings"]] == rules
    assert FAKE_GITHUB_TOKEN.encode() not in answer.body


@pytest.mark.parametrize(
    "text",
    [
        "a7f3c1d2-1234-4321-abcd-0123456789ab", "sha256:" + "0123456789abcdef" * 4,
        '"integrity": "sha512-' + "q" * 86 + '=="', "!function(e,t){var n=e.token=t()}(window);" * 50,
        "password = get_password()", "token: ${TOKEN}", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.abc", "4111 1111 1111 1111",
    ],
)  # fmt: skip
def test_lets_ordinary_text_pass(stack: Stack, text: str) -> None:
    assert scan(stack, {"kind": "dlp", "input": {"text": text}}).json["decision"] == "allow"


@pytest.mark.parametrize(
    "question",
    [
        b"no json", [], {}, {"kind": "dlp"}, {"kind": "tool_call", "input": {"content": "x"}},
        {"kind": "dlp", "input": {"text": "x"}, "extra": 1}, {"kind": "dlp", "input": {"text": "x", "more": 1}},
        {"kind": "dlp", "input": {"url": "https://allowed.test/"}}, {"kind": "dlp", "input": {"text": 1}},
        {"kind": "dlp", "input": {"text": "x", "url": "y"}}, {"kind": "dlp", "input": "x"},
        {"kind": "dlp", "input": {"text": "x"}, "context": {"who": "me"}},
        {"kind": "dlp", "input": {"text": "x"}, "context": {"request_id": 7}},
        {"kind": "dlp", "input": {"text": "x"}, "options": {"other": True}},
        {"kind": "dlp", "input": {"text": "x" * 524_289}},
    ],
)  # fmt: skip
def test_refuses_a_scan_that_it_does_not_understand(stack: Stack, question: Any) -> None:
    answer = scan(stack, question)
    assert (answer.status, answer.json["status"], answer.json["error"]["code"]) == (400, "error", "invalid_input")


def test_refuses_a_scan_without_its_token_path_or_method(stack: Stack) -> None:
    question = {"kind": "dlp", "input": {"text": "x"}}
    assert scan(stack, question, token="wrong").json["error"]["code"] == "unauthorized"
    assert scan(stack, question, token="wrong").status == 401
    assert scan(stack, question, path="/health").status == 404
    assert scan(stack, question, method="GET").status == 405
    head = f"POST /api/v1/scan HTTP/1.1\r\nAuthorization: Bearer {SCAN_TOKEN.reveal()}\r\n"
    big = ask(stack, head + "Content-Length: 99999999\r\n\r\n", SCAN_PORT)
    assert big is not None
    assert (big.status, big.json["error"]["code"]) == (413, "body_too_large")
    broken = ask(stack, head + "Content-Length: x\r\n\r\n", SCAN_PORT)
    assert broken is not None
    assert (broken.status, broken.json["error"]["code"]) == (400, "invalid_input")


def test_keeps_a_connection_for_more_scans(stack: Stack) -> None:
    body = json.dumps({"kind": "dlp", "input": {"text": "x"}}).encode()
    shown = f"Authorization: Bearer {SCAN_TOKEN.reveal()}"
    head = f"POST /api/v1/scan HTTP/1.1\r\n{shown}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((stack.guard_host, SCAN_PORT), timeout=10) as sock:
        for _ in range(3):
            sock.sendall(head.encode() + body)
            answer = read_answer(sock)
            assert answer is not None
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")
