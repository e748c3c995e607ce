"""Limits and failures of guard and relay, on real sockets within one process, where a limit can be made small."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress import detectors, guard_connect, guard_scan, pump, wire
from bottle_fsm.egress.delivered import DeliveredSecrets
from bottle_fsm.egress.files import interceptor_secrets
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.relay import Relay, RelayCaps
from bottle_fsm.egress.scan import Answer, ScanClient
from bottle_fsm.egress.settings import Address, Tokens
from bottle_fsm.secret import Secret

TOKENS = Tokens(scan="scan-token-0123456789", proxy="proxy-token-0123456789")
HOST = "127.0.0.1"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, HOST, 0, limit=wire.MAX_HEAD)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(port: int, raw: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(raw)
        async with asyncio.timeout(10):
            head = await wire.read_head(reader)
            assert head is not None
            value = json.loads(await wire.read_body(reader, head) or b"{}")
        return int(head.start[1]), value
    finally:
        await wire.close_writer(writer)


def question(text: str = "x") -> bytes:
    body = json.dumps({"kind": "dlp", "input": {"text": text}}).encode()
    head = f"POST /api/v1/scan HTTP/1.1\r\nAuthorization: Bearer {TOKENS.scan}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def policy_for(port: int) -> Any:
    return compile_policy(bottle="p/a", launch="l", allow=[], ssh=[("g.test", port)], hosts={"g.test": HOST})


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def scan_api(**limits: int) -> guard_scan.ScanApi:
    return guard_scan.ScanApi(
        policy_for(22), TOKENS, JsonLines(stream=io.StringIO()), limits=guard_scan.Limits(**limits)
    )


def test_limits_how_often_it_is_asked() -> None:
    async def run() -> list[tuple[int, dict[str, Any]]]:
        async with serving(scan_api(requests_per_minute=1, burst=2).serve) as port:
            return [await ask(port, question()) for _ in range(3)]

    first, second, third = asyncio.run(run())
    assert (first[0], second[0], third[0]) == (200, 200, 429)
    assert third[1]["error"]["code"] == "rate_limited"


def test_limits_how_many_connections_ask() -> None:
    async def run() -> tuple[int, dict[str, Any]]:
        async with serving(scan_api(connections=1).serve) as port:
            _, held = await asyncio.open_connection(HOST, port)
            await asyncio.sleep(0.05)
            try:
                return await ask(port, question())
            finally:
                await wire.close_writer(held)

    status, value = asyncio.run(run())
    assert (status, value["error"]["code"]) == (503, "too_many_connections")


def test_closes_a_silent_connection_without_an_answer_so_that_the_next_question_is_not_answered_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard_scan, "IDLE_TIMEOUT", 0.05)

    async def run() -> tuple[bytes, list[Answer]]:
        async with serving(scan_api().serve) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            silent = await reader.read()
            await wire.close_writer(writer)
            asking = ScanClient(HOST, port, agent="p/a")
            answers = []
            for _ in range(3):
                answers.append(await asking.text("x", TOKENS.scan))
                await asyncio.sleep(0.15)
            for _, kept in asking._idle:
                await wire.close_writer(kept)
        return silent, answers

    silent, answers = asyncio.run(run())
    assert silent == b""
    assert answers == [Answer(allow=True)] * 3


def test_gives_up_a_scan_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: str) -> list[str]:
        time.sleep(0.3)
        return []

    monkeypatch.setattr(detectors, "found_rules", slow)
    monkeypatch.setattr(guard_scan, "SCAN_TIMEOUT", 0.05)

    async def run() -> tuple[int, dict[str, Any]]:
        async with serving(scan_api().serve) as port:
            return await ask(port, question())

    status, value = asyncio.run(run())
    assert (status, value["error"]["code"]) == (503, "scan_deadline_exceeded")
    assert "decision" not in value


def test_answers_nothing_when_scanning_itself_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> list[str]:
        raise RuntimeError("secret text")

    monkeypatch.setattr(detectors, "found_rules", broken)
    stream = io.StringIO()
    api = guard_scan.ScanApi(policy_for(22), TOKENS, JsonLines(stream=stream), limits=guard_scan.Limits())

    async def run() -> bytes:
        async with serving(api.serve) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(question())
            answer = await reader.read()
            await wire.close_writer(writer)
            return answer

    assert asyncio.run(run()) == b""
    assert [line["reason"] for line in lines(stream)] == ["internal_RuntimeError"]
    assert "secret text" not in stream.getvalue()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-server\r\n")
    while data := await reader.read(4096):
        writer.write(data)
    await wire.close_writer(writer)


def connect_raw(port: int) -> bytes:
    return f"CONNECT g.test:{port} HTTP/1.1\r\nProxy-Authorization: Bearer {TOKENS.proxy}\r\n\r\n".encode()


def test_limits_how_many_tunnels_the_guard_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_connect, "MAX_TUNNELS", 0)

    async def run() -> tuple[int, dict[str, Any]]:
        async with serving(echo) as target:
            proxy = guard_connect.ConnectProxy(policy_for(target), TOKENS, JsonLines(stream=io.StringIO()))
            async with serving(proxy.serve) as port:
                return await ask(port, connect_raw(target))

    assert asyncio.run(run()) == (503, {"error": "blocked", "reason": "too_many_tunnels"})


def test_ends_a_tunnel_whose_client_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_connect, "FIRST_BYTES_TIMEOUT", 0.1)
    stream = io.StringIO()

    async def run() -> bytes:
        async with serving(echo) as target:
            proxy = guard_connect.ConnectProxy(policy_for(target), TOKENS, JsonLines(stream=stream))
            async with serving(proxy.serve) as port:
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(connect_raw(target))
                async with asyncio.timeout(5):
                    received = await reader.read()
                await wire.close_writer(writer)
                return received

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200 ")
    assert [line["reason"] for line in lines(stream) if line["event"] == "tunnel_close"] == ["client_silent"]


def test_refuses_and_reports_a_tunnel_that_breaks_the_guard_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("details")

    monkeypatch.setattr(guard_connect, "normalise_host", broken)
    stream = io.StringIO()

    async def run() -> bytes:
        proxy = guard_connect.ConnectProxy(policy_for(22), TOKENS, JsonLines(stream=stream))
        async with serving(proxy.serve) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(connect_raw(22))
            received = await reader.read()
            await wire.close_writer(writer)
            return received

    assert asyncio.run(run()) == b""
    assert [line["reason"] for line in lines(stream)] == ["internal_RuntimeError"]
    assert "details" not in stream.getvalue()


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 403, "guard_refused_tunnel"),
        (b"HTTP/1.1 407 No\r\n\r\n", 502, "guard_unreachable"),
        (b"nonsense\r\n\r\n", 502, "guard_unreachable"),
        (b"", 502, "guard_unreachable"),
    ],
)
def test_relays_nothing_when_the_guard_opens_no_tunnel(tmp_path: Path, answer: bytes, status: int, reason: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_bytes(interceptor_secrets(Secret(TOKENS.scan), Secret(TOKENS.proxy)))
    stream = io.StringIO()
    asked: list[bytes] = []

    async def guard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await wire.close_writer(writer)

    async def run() -> tuple[int, dict[str, Any]]:
        async with serving(guard) as port:
            relay = Relay(
                policy_for(22),
                Address(HOST, port),
                DeliveredSecrets(secrets),
                JsonLines(stream=stream),
                caps=RelayCaps(pump.Caps(1000, 5, 5), 2),
            )
            async with serving(relay.serve) as own:
                return await ask(own, b"CONNECT g.test:22 HTTP/1.1\r\n\r\n")

    found, value = asyncio.run(run())
    assert (found, value["reason"]) == (status, reason)
    assert f"Proxy-Authorization: Bearer {TOKENS.proxy}".encode() in asked[0]
    assert lines(stream)[-1]["reason"] == reason
    assert TOKENS.proxy not in stream.getvalue() + json.dumps(value)


def test_relay_records_a_client_that_says_nothing_and_one_that_breaks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()

    async def run() -> None:
        caps = RelayCaps(pump.Caps(1000, 5, 5), 2)
        tokens = DeliveredSecrets(tmp_path / "absent")
        relay = Relay(policy_for(22), Address(HOST, 1), tokens, JsonLines(stream=stream), caps=caps)
        async with serving(relay.serve) as port:
            for raw in (b"", b"CONNECT g.test:22 HTTP/1.1\r\n\r\n"):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(raw)
                writer.write_eof()
                assert await reader.read() == b""
                await wire.close_writer(writer)

    def broken(*_: object) -> None:
        raise RuntimeError("details")

    monkeypatch.setattr("bottle_fsm.egress.verdict.relay_verdict", broken)
    asyncio.run(run())
    assert [line["reason"] for line in lines(stream)] == ["client_silent", "internal_RuntimeError"]
    assert "details" not in stream.getvalue()
