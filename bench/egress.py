"""What the way out costs: `egress.py [REQUESTS]`: no hop, mitmproxy alone, and interceptor and guard.

Real processes on loopback: a web server inside TLS, mitmproxy with nothing added, and our interceptor and built-in
guard as a bottle has them. One client keeps one connection open in each of the three and asks in turn, so that all
meet the same moments of the machine. A request through two hops asks the guard twice (URL, headers) before it is sent.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

REPO: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests"))

from bottle_fsm.egress.policy import compile_policy  # noqa: E402 - after the path
from bottle_fsm.places import INTERCEPTOR_PORT  # noqa: E402
from egress_proc.egress_sidecars import VENV, Authority, Stack, ensure_venv, loopback  # noqa: E402
from figures import conditions, save  # noqa: E402

LIMIT: Final = 1.25
NAME: Final = "allowed.test"
PORT: Final = 8443
PROXY_PORT: Final = 8080
SIZES: Final = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000}
HOPS: Final = ("no hop", "mitmproxy alone", "interceptor and guard")
_SHARE: Final = {"1 KB": 1.0, "100 KB": 0.5, "10 MB": 0.05}
"""Of the requests that are asked for, by size."""


@contextmanager
def running(python: str, kind: str, settings: dict[str, Any]) -> Iterator[None]:
    """Run one of the peers until the end of the block."""
    command = [python, str(REPO / "bench" / "egress_server.py"), kind, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the {kind} did not start")
        yield
        process.kill()


def connection(address: str, port: int, trust: str, *, tunnel: str = "") -> http.client.HTTPSConnection:
    """Return an open connection to the server, straight or through a proxy to the host that `tunnel` names."""
    context = ssl.create_default_context(cafile=trust)
    made: http.client.HTTPSConnection = _Straight(address, port, context)
    if tunnel:
        made = http.client.HTTPSConnection(address, port, context=context, timeout=60)
        made.set_tunnel(tunnel, PORT)
    made.connect()
    return made


class _Straight(http.client.HTTPSConnection):
    """A connection to an address that checks another name."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(NAME, port, context=context, timeout=60)
        self._address = address
        self._context = context

    def connect(self) -> None:
        import socket  # noqa: PLC0415 - only here

        plain = socket.create_connection((self._address, self.port), timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(plain, server_hostname=NAME)


def asked(made: http.client.HTTPSConnection, size: int) -> float:
    """Return the seconds of one request and its whole answer."""
    began = time.perf_counter()
    made.request("GET", f"/{size}")
    answer = made.getresponse()
    got = len(answer.read())
    if (answer.status, got) != (200, size):
        raise RuntimeError(f"{answer.status} with {got} bytes")
    return time.perf_counter() - began


def rows(connections: dict[str, http.client.HTTPSConnection], requests: int) -> dict[str, Any]:
    """Return, for each size and way, latency and throughput."""
    found: dict[str, Any] = {}
    for label, size in SIZES.items():
        times: dict[str, list[float]] = {hop: [] for hop in HOPS}
        for number in range(max(10, int(requests * _SHARE[label])) + 3):
            for hop in HOPS:
                taken = asked(connections[hop], size)
                if number >= 3:  # noqa: PLR2004 - the first ones warm up
                    times[hop].append(taken)
        found[label] = {hop: _row(values, size) for hop, values in times.items()}
        own, peer = (found[label][hop]["p50 ms"] for hop in (HOPS[2], HOPS[1]))
        found[label]["ratio"] = round(own / peer, 2)
    return found


def _row(values: list[float], size: int) -> dict[str, float]:
    ordered = sorted(values)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "requests": len(ordered),
        "p50 ms": round(p50 * 1000, 2),
        "p99 ms": round(p99 * 1000, 2),
        "MB/s": round(size / p50 / 1e6, 1),
    }


def main(requests: int) -> int:
    """Measure, save, and return 1 when two hops cost more than the limit for small requests."""
    ensure_venv()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        top = Path(folder)
        authority = Authority.make(top / "ca")
        authority.issue(NAME)
        server, plain = loopback(), loopback()
        certificate = {"certificate": str(top / "ca" / f"{NAME}.pem"), "key": str(top / "ca" / f"{NAME}.key")}
        stack.enter_context(running(sys.executable, "server", {"host": server, "port": PORT, **certificate}))
        settings = {"host": plain, "listen": PROXY_PORT, "confdir": str(top / "plain")}
        stack.enter_context(running(str(VENV / "bin" / "python"), "proxy", settings))
        policy = compile_policy(bottle="bench/one", launch="1", allow=[(NAME, PORT)], hosts={NAME: server})
        sidecars = Stack(top / "sidecars", policy, authority)
        (top / "sidecars").mkdir()
        stack.callback(sidecars.stop)
        sidecars.start_guard()
        sidecars.start_interceptor()
        connections = {
            HOPS[0]: connection(server, PORT, str(top / "ca" / "ca.pem")),
            HOPS[1]: connection(plain, PROXY_PORT, str(top / "plain" / "mitmproxy-ca-cert.pem"), tunnel=server),
            HOPS[2]: connection(sidecars.host, INTERCEPTOR_PORT, str(sidecars.ca), tunnel=NAME),
        }
        found = rows(connections, requests)
    ratio = found["1 KB"]["ratio"]
    save("egress", {"sizes": found, "ratio": ratio, "limit": LIMIT, "conditions": conditions()})
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400))
