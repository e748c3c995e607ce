"""What happens when a part is missing, broken, slow or lying: the request is refused, and nothing arrives."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from egress_proc.egress_fake_guard import CUT, guard_that, http_answer, verdict_on
from egress_proc.egress_sidecars import GATE_HOST, RELAY_PORT, ROOT, Answer, Stack, World, read_answer, run_to_end

HOOKS = [
    "addon.http_connect", "addon.tls_clienthello", "addon.requestheaders", "addon.request", "addon.server_connect",
    "addon.http_connect_upstream", "doors.next_layer", "tls.tls_start_client", "addon._facts", "addon._inject",
    "addon._send_by_guard", "addon._delivered", "addon._ready", "addon-module.put_in", "judge.head", "judge.body",
    "judge.rule_of", "judge._head_secrets", "judge._ask_head", "judge._body_secrets",
    "judge-module._credential_problem", "judge-module.credential_verdict", "judge-module.found_credentials",
    "judge-module._head_bytes", "judge-module._outcome", "judge-module._aside", "known.found", "known.found_in_host",
    "known.refused", "known.mask", "delivered.placeholders",
]  # fmt: skip

NO_PART_IN_A_PLAIN_REQUEST = {"addon.http_connect", "addon._ready", "judge._body_secrets", "judge-module._aside"}
"""It needs no CONNECT and has no body."""


def attempt(stack: Stack, *, path: str = "/attempt") -> Answer | None:
    """Try an allowed request; a connection that is closed or stays silent gives None."""
    with contextlib.suppress(OSError, AssertionError):
        sock, answer = stack.connect("allowed.test:443")
        sock.close()
        if answer is None or answer.status != 200:
            return answer
        return stack.post("allowed.test", b"body", path=path)
    return None


def test_refuses_everything_until_its_secrets_are_delivered(fresh: Stack, world: World) -> None:
    before = len(world.allowed.requests)
    fresh.start_guard()
    fresh.start_interceptor(deliver=False)
    assert fresh.health["status"] == "waiting_secrets"
    for target in ("allowed.test:443", f"{GATE_HOST}:443"):
        sock, answer = fresh.connect(target)
        sock.close()
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (403, "not_ready")
    plain = fresh.plain("GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    assert plain is not None
    assert (plain.status, plain.json["reason"]) == (403, "not_ready")
    relayed = fresh.plain("CONNECT git.test:22022 HTTP/1.1\r\n\r\n", RELAY_PORT)
    assert relayed is not None
    assert (relayed.status, relayed.json["reason"]) == (403, "not_ready")
    delivered = fresh.inner / "run" / "interceptor-secrets.json"
    delivered.parent.mkdir()
    for wrong in (b"", b"{", b'{"scan_token": "short", "proxy_token": "short"}', b"[]", b"{}"):
        delivered.write_bytes(wrong)
        assert fresh.health["status"] == "waiting_secrets"
    assert fresh.tunnels == 0
    fresh.deliver()
    assert fresh.health["status"] == "ok"
    answer = attempt(fresh)
    assert answer is not None
    assert answer.status == 200
    assert len(world.allowed.requests) == before + 1


def test_refuses_when_the_guard_is_killed_and_serves_when_it_is_back(fresh: Stack, world: World) -> None:
    guard = fresh.start_guard()
    fresh.start_interceptor()
    assert attempt(fresh) is not None
    before = len(world.allowed.requests)
    guard.stop(signal.SIGKILL)
    answer = attempt(fresh)
    assert answer is not None
    assert (answer.status, answer.json["reason"], answer.json["by"]) == (502, "guard_unreachable", "guard")
    assert fresh.health["guard"] == "unreachable"
    verdict = fresh.get(GATE_HOST, "/verdict?host=allowed.test&port=443")
    assert verdict is not None
    assert (verdict.json["decision"], verdict.json["reason"]) == ("deny", "guard_unreachable")
    assert len(world.allowed.requests) == before
    fresh.start_guard()
    again = attempt(fresh)
    assert again is not None
    assert again.status == 200
    assert fresh.health["guard"] == "ok"


def test_keeps_its_ca_over_a_restart_and_needs_its_secrets_again(fresh: Stack) -> None:
    fresh.start_guard()
    process = fresh.start_interceptor()
    fingerprint = fresh.health["ca_sha256"]
    assert process.stop() == 0
    assert process.lines("shutdown")
    (fresh.inner / "run" / "interceptor-secrets.json").unlink()
    fresh.start_interceptor(deliver=False)
    assert (fresh.health["ca_sha256"], fresh.health["status"]) == (fingerprint, "waiting_secrets")


@pytest.mark.parametrize("hook", HOOKS)
def test_refuses_when_a_hook_raises(fresh: Stack, stack: Stack, world: World, hook: str) -> None:
    before = len(world.allowed.requests)
    fresh.guard_host = stack.guard_host
    fresh.start_interceptor(module="egress_proc.egress_sabotage", env={"BREAK": hook})
    answer = attempt(fresh, path="/broken") if hook != "doors.next_layer" else None
    assert answer is None or answer.status >= 400, answer
    assert len(world.allowed.requests) == before
    with contextlib.suppress(OSError), fresh.dial() as sock:
        sock.settimeout(1)
        sock.sendall(b"GET http://allowed.test/broken HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        plain = read_answer(sock)
        assert plain is None or plain.status >= 400 or "tls" in hook or hook in NO_PART_IN_A_PLAIN_REQUEST


def test_lets_nothing_pass_when_mitmproxy_chooses_its_layers_itself(fresh: Stack, stack: Stack, world: World) -> None:
    connections = world.allowed.connections, world.plain.connections
    fresh.guard_host = stack.guard_host
    fresh.start_interceptor(module="egress_proc.egress_sabotage", env={"BREAK": "loose"})
    for target in ("allowed.test:443", "allowed.test:80"):
        sock, answer = fresh.connect(target)
        assert answer is not None
        assert answer.status == 200
        with sock, contextlib.suppress(OSError):
            sock.sendall(b"\x00\x01\x02 raw bytes")
            assert sock.recv(100) == b""
    assert (world.allowed.connections, world.plain.connections) == connections


def test_closes_the_doors_that_no_layer_leads_to(sidecar_venv: Path) -> None:
    done = run_to_end("egress_proc.egress_last_hooks", env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    assert (done.returncode, done.stdout) == (0, "closed"), done.stderr


def test_makes_no_connection_but_to_the_guard(fresh: Stack, stack: Stack, world: World) -> None:
    connections = world.allowed.connections
    fresh.guard_host = stack.guard_host
    host, port = world.allowed.address
    fresh.start_interceptor(module="egress_proc.egress_sabotage", env={"BREAK": "direct", "DIRECT": f"{host}:{port}"})
    answer = attempt(fresh, path="/direct")
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (502, "upstream_unreachable")
    assert world.allowed.connections == connections


def without(question: dict[str, object], field: str) -> dict[str, object]:
    value = verdict_on(question)
    del value[field]
    return value


ANSWERS: dict[str, Callable[[dict[str, object]], bytes | None]] = {
    "closes": lambda _: None,
    "no_http": lambda _: b"\x00\x01\x02 garbage without end\r\n\r\n",
    "no_status": lambda _: b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "empty": lambda _: http_answer(b""),
    "no_json": lambda _: http_answer(b"allow"),
    "a_list": lambda _: http_answer(["allow"]),
    "allow_with_500": lambda q: http_answer(verdict_on(q), "500 Oops"),
    "allow_with_403": lambda q: http_answer(verdict_on(q), "403 Forbidden"),
    "allow_with_429": lambda q: http_answer(verdict_on(q), "429 Slow"),
    "allow_with_204": lambda q: http_answer(verdict_on(q), "204 No Content"),
    "upper_case": lambda q: http_answer(verdict_on(q, decision="ALLOW")),
    "true": lambda q: http_answer(verdict_on(q, decision=True)),
    "a_list_decision": lambda q: http_answer(verdict_on(q, decision=["allow"])),
    "no_decision": lambda q: http_answer(without(q, "decision")),
    "no_kind": lambda q: http_answer(without(q, "kind")),
    "no_request_id": lambda q: http_answer(without(q, "request_id")),
    "other_kind": lambda q: http_answer(verdict_on(q, kind="tool_call")),
    "other_request": lambda q: http_answer(verdict_on(q, request_id="another")),
    "deny": lambda q: http_answer(verdict_on(q, decision="deny")),
    "cut_off": lambda q: http_answer(json.dumps(verdict_on(q)).encode() + CUT + b"more")[:-4],
    "bad_length": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "huge_length": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    "bad_chunk": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge_chunk": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
    "bad_chunk_end": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    "two_lengths": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "gzip_coding": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "endless_head": lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
}


@pytest.fixture(scope="module")
def alone(sidecar_venv: object, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An interceptor without a guard; tests put their own in its place."""
    made = Stack(tmp_path_factory.mktemp("alone"), stack.policy, stack.authority)
    try:
        made.start_interceptor()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("kind", ANSWERS)
def test_refuses_when_the_guard_answers_anything_but_allow(alone: Stack, world: World, kind: str) -> None:
    before = len(world.allowed.requests)
    with guard_that(alone, ANSWERS[kind]) as guard:
        answer = attempt(alone)
    assert answer is not None
    assert answer.status == (403 if kind == "deny" else 502)
    assert answer.json["by"] == "guard"
    assert (len(world.allowed.requests), guard.connects) == (before, 0)
    assert guard.scans


@pytest.mark.parametrize("denied", ["url", "headers", "body"])
def test_asks_about_url_headers_and_body_and_takes_each_no(alone: Stack, world: World, denied: str) -> None:
    def scan(question: dict[str, object]) -> bytes:
        texts = question["input"]
        assert isinstance(texts, dict)
        part = "url" if question["kind"] == "url" else ("headers" if "host: " in texts["text"].lower() else "body")
        return http_answer(verdict_on(question, decision="deny" if part == denied else "allow"))

    before = len(world.allowed.requests)
    with guard_that(alone, scan) as guard:
        answer = attempt(alone, path="/x?y=z")
    assert answer is not None
    assert answer.status == 403
    asked = [question["input"] for question in guard.scans]
    assert asked[0] == {"url": "https://allowed.test:443/x?y=z"}
    assert len(asked) == {"url": 1, "headers": 2, "body": 3}[denied]
    assert (len(world.allowed.requests), guard.connects) == (before, 0)
    if denied == "body":
        assert asked[2] == {"text": "body"}


@pytest.mark.parametrize(
    ("connect", "status", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, "guard_refused_tunnel"),
        (b"HTTP/1.1 407 Authentication\r\nContent-Length: 0\r\n\r\n", 502, "upstream_unreachable"),
        (b"garbage\r\n\r\n", 502, "upstream_unreachable"),
        (b"", 502, "upstream_unreachable"),
    ],
)
def test_refuses_when_the_guard_opens_no_tunnel(
    alone: Stack, world: World, connect: bytes, status: int, reason: str
) -> None:
    before = len(world.allowed.requests)
    with guard_that(alone, lambda question: http_answer(verdict_on(question)), connect) as guard:
        answer = attempt(alone)
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert guard.connects == 1
    assert len(world.allowed.requests) == before


def test_refuses_when_the_guard_is_slow(alone: Stack, world: World) -> None:
    def scan(question: dict[str, object]) -> bytes:
        time.sleep(9)
        return http_answer(verdict_on(question))

    before = len(world.allowed.requests)
    with guard_that(alone, scan) as guard:
        started = time.monotonic()
        answer = attempt(alone)
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (502, "guard_timeout")
    assert 7 < time.monotonic() - started < 9
    assert (len(world.allowed.requests), guard.connects) == (before, 0)


def test_takes_chunked_answers_and_replaces_a_connection_that_the_guard_closed(alone: Stack) -> None:
    def scan(question: dict[str, object]) -> bytes:
        body = json.dumps(verdict_on(question)).encode()
        halves = body[:10], body[10:]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    for _ in range(2):
        with guard_that(alone, scan, b"HTTP/1.1 403 No\r\n\r\n") as guard:
            answer = attempt(alone)
        assert answer is not None
        assert answer.json["reason"] == "guard_refused_tunnel"
        assert guard.connects == 1
