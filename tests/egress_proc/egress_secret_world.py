"""A bottle with secrets, a canary and injected values, in front of one server that can echo what it gets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottle_fsm.egress.injection import Injection, placeholder
from bottle_fsm.egress.known import KnownSecret
from bottle_fsm.egress.policy import EgressPolicy, compile_policy
from egress_proc.egress_sidecars import Authority, Seen, Stack, TestServer, loopback

DEPLOY_KEY = KnownSecret("DEPLOY_KEY", b'q7/Zk+deploy"key=09%w~x5&B', ("granted.test", "*.grant.test"))
CANARY = KnownSecret("BOTTLE_CANARY", b"canary-3f9c2b7d61e04a85", ())
MARKERS = {one.name: f"[secret {one.name} removed by bottle-fsm]".encode() for one in (DEPLOY_KEY, CANARY)}
TOKEN = "real-token/7Qz+Xw=09&cV"
PASSWORD = "pass:word+8Kd/Q%yP"
MARK = placeholder("demo/secretive", "", "API_TOKEN")
PASSWORD_MARK = placeholder("demo/secretive", "", "PASSWORD")
HELD = ((TOKEN, MARK),)
INJECTIONS = (
    Injection("https://header.test:443", "header", "X-Api-Key", f"v1 {TOKEN}", HELD),
    Injection("https://bearer.test:443", "bearer", "", TOKEN, HELD),
    Injection("https://basic.test:443", "basic", "", f"ada:{PASSWORD}", ((PASSWORD, PASSWORD_MARK),)),
    Injection("https://query.test:443", "query", "api_key", TOKEN, HELD),
    Injection("https://agent-too.test:443", "bearer", "", TOKEN, HELD),
    Injection("https://two.test:443", "header", "X-One", TOKEN, HELD),
    Injection("https://two.test:443", "query", "two", TOKEN, HELD),
    Injection("https://h2.test:8444", "bearer", "", TOKEN, HELD),
)
INJECTED_RULES: list[dict[str, Any]] = [
    {"host": "header.test", "inject": ["header X-Api-Key"]},
    {"host": "bearer.test", "inject": ["bearer Authorization"]},
    {"host": "basic.test", "inject": ["basic Authorization"]},
    {"host": "query.test", "inject": ["query api_key"]},
    {"host": "agent-too.test", "inject": ["bearer Authorization"], "credentials": "agent"},
    {"host": "two.test", "inject": ["header X-One", "query two"]},
    {"host": "h2.test", "port": 8444, "inject": ["bearer Authorization"]},
]
OTHER_RULES: list[dict[str, Any]] = [
    {"host": "allowed.test"},
    {"host": "*.wild.test"},
    {"host": "granted.test"},
    {"host": "*.grant.test"},
    {"host": "model.test", "scan": "off", "credentials": "injected"},
    {"host": "agent.test", "credentials": "agent"},
    {"host": "injected.test", "credentials": "injected"},
    {"host": "warn.test", "scan": "warn"},
    {"host": "off.test", "scan": "off"},
    {"host": "bearer.test", "port": 80},
]


def echo(seen: Seen) -> Iterator[bytes]:
    """Send back every header and the body, as JSON."""
    body = json.dumps({"line": seen.line, "headers": seen.headers, "body": seen.body.decode("latin-1")}).encode()
    yield f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class SecretWorld:
    """The server and the policy that leads to it."""

    server: TestServer
    plain: TestServer
    policy: EgressPolicy

    @property
    def arrivals(self) -> int:
        return len(self.server.requests) + len(self.plain.requests)

    def close(self) -> None:
        self.server.close()
        self.plain.close()


def make_secret_world(authority: Authority) -> SecretWorld:
    address = loopback()
    rules = [{"port": 443, **rule} for rule in (*INJECTED_RULES, *OTHER_RULES)]
    names = [rule["host"] for rule in rules] + ["a.wild.test", "a.grant.test"]
    policy = compile_policy(
        bottle="demo/secretive",
        launch="launch-2",
        allow=rules,
        hosts={name: address for name in names if not name.startswith("*")},
        model_host="model.test",
    )
    return SecretWorld(
        server=TestServer((address, 443), tls=authority.issue(*dict.fromkeys(names))),
        plain=TestServer((address, 80)),
        policy=policy,
    )


def secret_stack(where: Path, world: SecretWorld, authority: Authority) -> Stack:
    """Return the sidecars of a bottle with all of this, not started."""
    return Stack(where, world.policy, authority, secrets=(DEPLOY_KEY, CANARY), injections=INJECTIONS)


def request(
    stack: Stack, raw: bytes, host: str = "allowed.test", *, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes in a tunnel and read one whole answer, however its body is framed."""
    with stack.tunnel(f"{host}:443") as sock:
        sock.sendall(raw)
        return answer_on(sock, method)


def answer_on(sock: Any, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Read one whole answer; what follows it stays unread only if it comes later."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    body = response.read()
    response.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def get(host: str, path: str = "/", headers: str = "", *, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: {host}\r\n{headers}\r\n".encode("latin-1")


def post(host: str, body: bytes, headers: str = "", path: str = "/") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def logs(stack: Stack) -> str:
    """Return everything that the sidecars wrote."""
    found = [process for process in (stack.interceptor, stack.guard) if process is not None]
    return "".join(path.read_text() for process in found for path in (process.out, process.err))
