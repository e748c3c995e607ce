"""Starts real guards, interceptors and test servers on loopback addresses, and speaks to them as an agent would."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bottle_fsm.egress import files
from bottle_fsm.egress.injection import Injection
from bottle_fsm.egress.known import KnownSecret
from bottle_fsm.egress.policy import EgressPolicy, compile_policy
from bottle_fsm.places import GATE_HOST, GUARD_PORT, HEALTH_PORT, INTERCEPTOR_PORT, RELAY_PORT, RUN_DIR, SCAN_PORT
from bottle_fsm.secret import Secret

ROOT = Path(__file__).resolve().parents[2]
PYTHON = str(os.environ.get("BOTTLE_SIDECAR_PYTHON") or getattr(sys, "_base_executable", sys.executable))
"""Which Python the sidecars run on; the image has a newer one than the launcher may have."""
VENV = ROOT / ".build" / ("sidecar-venv" + ("-" + Path(PYTHON).name if "BOTTLE_SIDECAR_PYTHON" in os.environ else ""))
REQUIREMENTS = ("mitmproxy>=11,<13", "detect-secrets>=1.5", "coverage>=7.10")
SCAN_TOKEN = Secret("scan-token-of-this-test-launch")
PROXY_TOKEN = Secret("proxy-token-of-this-test-launch")
START_TIMEOUT = 30.0
FAKE_GITHUB_TOKEN = "ghp_" + "A1b2C3d4E5f6" * 3


def ensure_venv() -> Path:
    """Return the sidecars' environment, made once for all workers; with mitmproxy's own pins, like the image."""
    VENV.parent.mkdir(exist_ok=True)
    ready = VENV / "ready"
    with VENV.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            subprocess.run([PYTHON, "-m", "venv", "--clear", str(VENV)], check=True)
            subprocess.run([VENV / "bin" / "pip", "install", "-q", *REQUIREMENTS], check=True)
            ready.touch()
    return VENV


def loopback() -> str:
    """Return a random address of 127/8 for one test server or sidecar: fixed ports then never collide."""
    return f"127.{random.randint(32, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"


def wait_for(condition: Callable[[], Any], *, timeout: float = 10.0, what: str = "") -> Any:
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


@dataclass
class Process:
    """A running sidecar with its output in files."""

    popen: subprocess.Popen[bytes]
    out: Path
    err: Path

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.out.read_text().splitlines()]
        return [line for line in found if not event or line["event"] == event]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signum)
        try:
            return self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise


def python_argv(module: str) -> list[str]:
    """Return how a module is run in the sidecars' environment, measured when the tests are."""
    python = str(VENV / "bin" / "python")
    if os.environ.get("COVERAGE_RUN"):
        return [python, "-m", "coverage", "run", "-p", "--rcfile=pyproject.toml", "-m", module]
    return [python, "-m", module]


def start(argv: list[str], where: Path, name: str, *, env: Mapping[str, str] | None = None) -> Process:
    out, err = where / f"{name}.out", where / f"{name}.err"
    # The launcher's own subprocess measuring would count these processes twice.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_PROCESS")}
    inherited |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}
    with out.open("wb") as stdout, err.open("wb") as stderr:
        popen = subprocess.Popen(argv, cwd=ROOT, stdout=stdout, stderr=stderr, env=inherited | dict(env or {}))
    return Process(popen, out, err)


def run_to_end(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_PROCESS")}
    argv = [*python_argv(module), *arguments]
    return subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False, env=inherited | dict(env or {})
    )


def placed(content: Mapping[str, bytes], where: Path, health_host: str) -> dict[str, bytes]:
    """Move files made for a container to a directory of the test; only paths and the health address change."""
    moves = {
        files.CONFIG_DIR: str(where / "etc"),
        files.STATE_DIR: str(where / "state"),
        RUN_DIR: str(where / "run"),
        '"127.0.0.1"': f'"{health_host}"',
    }

    def moved(text: str) -> str:
        for old, new in moves.items():
            text = text.replace(old, new)
        return text

    return {moved(path): moved(data.decode()).encode() for path, data in content.items()}


def write_sealed(content: Mapping[str, bytes], where: Path) -> None:
    sealed = {
        path.replace(files.CONFIG_DIR, str(where / "etc")): data for path, data in files.seal(dict(content)).items()
    }
    for path, data in sealed.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


@dataclass
class Authority:
    """A CA made for the tests' own servers."""

    where: Path

    @property
    def pem(self) -> bytes:
        return (self.where / "ca.pem").read_bytes()

    @classmethod
    def make(cls, where: Path) -> Authority:
        where.mkdir(parents=True, exist_ok=True)
        _openssl(where, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                 "-subj", "/CN=test servers", "-days", "2", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        return cls(where)

    def issue(self, *names: str) -> ssl.SSLContext:
        stem = names[0].replace("*", "any")
        request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{stem}.key", "-out", f"{stem}.csr"]
        _openssl(self.where, *request, "-subj", f"/CN={names[0]}")
        extensions = self.where / f"{stem}.ext"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
        _openssl(self.where, "x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                 "-CAcreateserial", "-days", "2", "-extfile", extensions.name, "-out", f"{stem}.pem")  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.where / f"{stem}.pem", self.where / f"{stem}.key")
        return context


def _openssl(where: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=where, check=True, capture_output=True)


@dataclass
class Seen:
    """One request as a test server received it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


Reply = Callable[[Seen], Iterable[bytes]]
"""Makes the bytes of an answer, piece by piece, each sent at once."""


class TestServer:
    """A TCP, HTTP or HTTPS server that records what reaches it."""

    __test__ = False

    def __init__(self, address: tuple[str, int], *, tls: ssl.SSLContext | None = None, banner: bytes = b"") -> None:
        self.address = address
        self.requests: list[Seen] = []
        self.connections = 0
        self.received = b""
        self.headers = "Content-Type: text/plain\r\n"
        self.reply: Reply | None = None
        self.ends_connections = False
        self._tls = tls
        self._banner = banner
        self._listener = socket.create_server(address)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve_safely, args=(client,), daemon=True).start()

    def _serve_safely(self, client: socket.socket) -> None:
        client.settimeout(10)
        with client, contextlib.suppress(OSError):
            if self._banner:
                self._serve_banner(client)
            elif self._tls is not None:
                with self._tls.wrap_socket(client, server_side=True) as wrapped:
                    self._serve_http(wrapped)
            else:
                self._serve_http(client)

    def _serve_banner(self, client: socket.socket) -> None:
        client.sendall(self._banner)
        while data := client.recv(4096):
            self.received += data
            client.sendall(data)

    def _serve_http(self, client: socket.socket) -> None:
        with client.makefile("rb") as stream:
            while line := stream.readline():
                headers = []
                while header := stream.readline().rstrip(b"\r\n"):
                    name, _, value = header.decode("latin-1").partition(":")
                    headers.append((name, value.strip()))
                seen = Seen(line.decode("latin-1").rstrip(), headers, b"")
                seen.body = _server_body(stream, seen)
                self.requests.append(seen)
                if self.reply is not None:
                    for piece in self.reply(seen):
                        client.sendall(piece)
                    if self.ends_connections:
                        return
                    continue
                body = b"hello from the server"
                if "/large/" in seen.line:
                    body = bytes(int(seen.line.split("/large/")[1].split()[0]) * 1024 * 1024)
                head = f"HTTP/1.1 200 OK\r\n{self.headers}Content-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)


def _server_body(stream: Any, seen: Seen) -> bytes:
    if "chunked" in "".join(seen.header("transfer-encoding")):
        body = b""
        while size := int(stream.readline().split(b";")[0], 16):
            body += stream.read(size)
            stream.readline()
        while stream.readline().strip():
            pass
        return body
    length = "".join(seen.header("content-length"))
    return bytes(stream.read(int(length))) if length else b""


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


def read_answer(sock: socket.socket) -> Answer | None:
    """Read one answer and not a byte more; None when the connection was closed instead."""
    try:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte:
                return None
            head += byte
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body, length = b"", int(headers.get("content-length", "0"))
        while len(body) < length and (more := sock.recv(length - len(body))):
            body += more
    except (ConnectionError, ssl.SSLError, TimeoutError):
        return None
    return Answer(int(first.split(" ")[1]), headers, body)


@dataclass
class Stack:
    """One bottle's sidecars on loopback, and the way an agent speaks to them."""

    where: Path
    policy: EgressPolicy
    authority: Authority
    guard_host: str = field(default_factory=loopback)
    host: str = field(default_factory=loopback)
    guard: Process | None = None
    interceptor: Process | None = None
    secrets: Sequence[KnownSecret] = ()
    injections: Sequence[Injection] = ()

    # --- life ---

    def start_guard(self) -> Process:
        content = files.guard_files(
            "builtin", self.policy, listen=self.guard_host, scan_token=SCAN_TOKEN, proxy_token=PROXY_TOKEN
        )
        where = self.where / "guard"
        write_sealed(placed(content, where, self.host), where)
        argv = [*python_argv("bottle_fsm.egress.guard"), "--config", str(where / "etc/guard.json")]
        self.guard = start(argv, self.where, "guard")
        self._await(self.guard, lambda: self._health(self.guard_host, GUARD_PORT))
        return self.guard

    def start_interceptor(
        self,
        *,
        module: str = "bottle_fsm.egress.interceptor",
        deliver: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        content = files.interceptor_files(
            self.policy, listen=self.host, guard=self.guard_host, upstream_ca=self.authority.pem
        )
        where = self.inner
        write_sealed(placed(content, where, self.host), where)
        argv = [*python_argv(module), "--config", str(where / "etc/interceptor.json")]
        self.interceptor = start(argv, self.where, "interceptor", env=env)
        self.await_interceptor()
        if deliver:
            self.deliver()
        return self.interceptor

    def await_interceptor(self) -> None:
        assert self.interceptor is not None
        self._await(self.interceptor, lambda: self._health(self.host, HEALTH_PORT) and self._listens(INTERCEPTOR_PORT))

    def deliver(self) -> None:
        target = self.inner / "run" / Path(files.INTERCEPTOR_SECRETS).name
        target.parent.mkdir(exist_ok=True)
        aside = target.with_suffix(".new")
        aside.write_bytes(
            files.interceptor_secrets(SCAN_TOKEN, PROXY_TOKEN, secrets=self.secrets, injections=self.injections)
        )
        aside.rename(target)

    def stop(self) -> None:
        for process in (self.interceptor, self.guard):
            if process is not None:
                process.stop()

    @property
    def inner(self) -> Path:
        return self.where / "interceptor"

    @property
    def ca(self) -> Path:
        return self.inner / "state" / "ca.crt"

    @property
    def health(self) -> dict[str, Any]:
        found = self._health(self.host, HEALTH_PORT)
        assert found is not None
        return found.json

    def _await(self, process: Process, ready: Callable[[], Any]) -> None:
        def condition() -> Any:
            assert process.popen.poll() is None, process.err.read_text()
            return ready()

        wait_for(condition, timeout=START_TIMEOUT, what="the sidecar is up")

    def _health(self, host: str, port: int) -> Answer | None:
        try:
            with socket.create_connection((host, port), timeout=5) as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                return read_answer(sock)
        except OSError:
            return None

    def _listens(self, port: int) -> bool:
        try:
            socket.create_connection((self.host, port), timeout=5).close()
        except OSError:
            return False
        return True

    # --- what happened ---

    @property
    def decisions(self) -> list[dict[str, Any]]:
        assert self.interceptor is not None
        return self.interceptor.lines("decision")

    @property
    def tunnels(self) -> int:
        """Return how many CONNECTs the guard has seen, served or refused."""
        assert self.guard is not None
        return len(self.guard.lines("tunnel_open")) + len(self.guard.lines("blocked"))

    # --- the agent ---

    def dial(self, port: int = INTERCEPTOR_PORT) -> socket.socket:
        return socket.create_connection((self.host, port), timeout=15)

    def connect(self, target: str, port: int = INTERCEPTOR_PORT) -> tuple[socket.socket, Answer | None]:
        """Send a CONNECT; the answer's body is read only when it was refused."""
        sock = self.dial(port)
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return sock, read_answer(sock)

    @contextlib.contextmanager
    def tunnel(self, target: str, *, sni: str | None = None, alpn: str = "http/1.1") -> Iterator[ssl.SSLSocket]:
        """Open TLS inside a tunnel, checked against the bottle's CA; `sni` differs from the target only on purpose."""
        sock, answer = self.connect(target)
        assert answer is not None
        assert answer.status == 200, answer
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols([alpn])
        name = target.partition(":")[0] if sni is None else sni
        context.check_hostname = sni is None
        with sock, context.wrap_socket(sock, server_hostname=name or None) as wrapped:
            yield wrapped

    def https(self, target: str, raw: bytes | str) -> Answer | None:
        """Send raw bytes through a tunnel and read one answer."""
        with self.tunnel(target) as sock:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                sock.sendall(raw.encode() if isinstance(raw, str) else raw)
            return read_answer(sock)

    def get(self, host: str, path: str = "/", *, port: int = 443, headers: str = "") -> Answer | None:
        named = host if port == 443 else f"{host}:{port}"
        return self.https(f"{host}:{port}", f"GET {path} HTTP/1.1\r\nHost: {named}\r\n{headers}\r\n")

    def post(self, host: str, body: bytes, *, headers: str = "", path: str = "/upload") -> Answer | None:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        return self.https(f"{host}:443", head.encode() + body)

    def plain(self, raw: bytes | str, port: int = INTERCEPTOR_PORT) -> Answer | None:
        with self.dial(port) as sock:
            sock.sendall(raw.encode() if isinstance(raw, str) else raw)
            return read_answer(sock)

    def by_http2(self, path: str, header: str = "x", trailer: str = "", body: str = "ok") -> str:
        """Post to allowed.test by HTTP/2; return the status, or `reset`. A trailer may be `name: value`."""
        script = Path(__file__).parent / "egress_h2_client.py"
        argv: list[str | Path] = [VENV / "bin" / "python", script, self.host, str(INTERCEPTOR_PORT), self.ca]
        argv += [path, header, trailer, body]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        proxy = f"http://{self.host}:{INTERCEPTOR_PORT}"
        argv = ["curl", "-sS", "--max-time", "20", "--proxy", proxy, "--cacert", str(self.ca), *arguments]
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


@dataclass
class World:
    """The test servers behind one policy."""

    address: str
    allowed: TestServer
    plain: TestServer
    other: TestServer
    ssh: TestServer
    garbage: TestServer
    policy: EgressPolicy

    def close(self) -> None:
        for server in (self.allowed, self.plain, self.other, self.ssh, self.garbage):
            server.close()


def make_world(authority: Authority) -> World:
    """Start the servers: `allowed.test` and `*.wild.test` (443), `allowed.test:80`, `other.test:8443`, ssh ones.

    `api.test` (443) is the first of them, with methods and paths limited.
    """
    address = loopback()
    context = authority.issue("allowed.test", "*.wild.test", "wild.test", "*.b.wild.test", "evil.test", "api.test")
    names = (
        "allowed.test",
        "api.test",
        "a.wild.test",
        "a.b.wild.test",
        "wild.test",
        "evil.test",
        "other.test",
        "git.test",
    )
    policy = compile_policy(
        bottle="demo/implementer",
        launch="launch-1",
        allow=[("allowed.test", 443), ("allowed.test", 80), ("*.wild.test", 443), ("other.test", 8443),
               ("localhost", 443), ("selfsigned.test", 9443), ("dead.test", 9444),
               {"host": "api.test", "port": 443, "methods": ["GET", "HEAD"], "paths": ["/repos/acme/*", "/user"]}],
        ssh=[("git.test", 22022), ("git.test", 22023)],
        hosts=dict.fromkeys((*names, "selfsigned.test", "dead.test"), address),
    )  # fmt: skip
    return World(
        address=address,
        allowed=TestServer((address, 443), tls=context),
        plain=TestServer((address, 80)),
        other=TestServer((address, 8443), tls=authority.issue("other.test")),
        ssh=TestServer((address, 22022), banner=b"SSH-2.0-TestServer\r\n"),
        garbage=TestServer((address, 22023), banner=b"220 not an ssh server\r\n"),
        policy=policy,
    )


__all__ = ["GATE_HOST", "GUARD_PORT", "HEALTH_PORT", "INTERCEPTOR_PORT", "RELAY_PORT", "SCAN_PORT"]
