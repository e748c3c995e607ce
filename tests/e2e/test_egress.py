"""What leaves a bottle, counted where it arrives: at a real TLS server of a made-up internet. On both real backends."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from bottle_fsm.backend.docker.client import Engine
from e2e_bench import Bench, Person, simple
from lean_image import WHOLE
from near_world import NearBench, near_world
from outside_world import OutsideWorld

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
CURL = "curl -sS -m 15 -o /dev/null -w '%{http_code} %{http_connect}'"
OF_THE_IMAGE: Final = ("python-requests", "node")
"""The local backend has this machine's tools: there need be none of these, or one too old to know a proxy."""


@dataclass
class Far(ABC):
    """A bottle that may reach `web` of the made-up internet and nothing else."""

    bench: Person
    world: OutsideWorld

    def launch(self, backend: str) -> None:
        """Launch the bottle."""
        egress = self.world.egress("web", "denied", "other", allow=[self.world.name("web")])
        self.bench.ok("apply", self.bench.write({**simple(egress=egress, image=WHOLE), "backend": backend}))

    @abstractmethod
    def kill(self, role: str) -> None:
        """Kill a sidecar."""

    @abstractmethod
    def paused(self, role: str) -> contextlib.AbstractContextManager[None]:
        """Pause a sidecar for the time of the body."""

    def curl(self, words: str) -> str:
        """Run curl inside; return the statuses of the answer and of the proxy's CONNECT."""
        return self.bench.inside(GUEST, f"{CURL} {words}").out

    def fails(self, words: str) -> float:
        """Run curl inside, see it fail, and return how long that took."""
        started = time.monotonic()
        ended = self.bench.inside(GUEST, f"curl -sSf -m 8 -o /dev/null {words}")
        assert ended.code != 0, f"{words} got through"
        return time.monotonic() - started

    def url(self, path: str, label: str = "web", scheme: str = "https") -> str:
        return f"{scheme}://{self.world.name(label)}{path}"

    def tunnels(self) -> int:
        """Return how many CONNECTs the guard saw, served or refused."""
        text = self.bench.ok("logs", GUEST, "--role", "guard", "--tail", "100000").out
        return sum(json.loads(line)["event"] in {"tunnel_open", "blocked"} for line in text.splitlines())

    def arrived(self) -> int:
        """Return how many connections the outside machine saw on its web ports, from whomever."""
        return len(self.world.seen("connection"))


class FarOnEngine(Far):
    """The same in containers."""

    def kill(self, role: str) -> None:
        """Kill a sidecar."""
        with self._engine.guarded(f"kill {role}") as api:
            api.kill(self._container(role))

    @contextlib.contextmanager
    def paused(self, role: str) -> Iterator[None]:
        """Pause a sidecar for the time of the body."""
        with self._engine.guarded(f"pause {role}") as api:
            api.pause(self._container(role))
        yield
        with self._engine.guarded(f"let {role} go on") as api:
            api.unpause(self._container(role))

    def _container(self, role: str) -> str:
        return self.bench.resources(GUEST)[role]

    @property
    def _engine(self) -> Engine:
        assert isinstance(self.bench, Bench)
        return self.bench.engine


class FarNearby(Far):
    """The same in sandboxes of this machine."""

    def kill(self, role: str) -> None:
        """Kill a sidecar."""
        os.kill(self._near.first_process(role), signal.SIGKILL)

    @contextlib.contextmanager
    def paused(self, role: str) -> Iterator[None]:
        """Stop every process of a sidecar for the time of the body."""
        self._near.signal(role, signal.SIGSTOP)
        yield
        self._near.signal(role, signal.SIGCONT)

    @property
    def _near(self) -> NearBench:
        assert isinstance(self.bench, NearBench)
        return self.bench


@pytest.fixture(scope="module", name="far", params=["docker", "local"])
def _far(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    if request.param == "docker":
        made: Far = FarOnEngine(request.getfixturevalue("shared"), request.getfixturevalue("world"))
        made.launch("docker")
        yield made
        return
    if os.geteuid() != 0:
        pytest.skip("only root can make an internet of his own")
    with near_world(tmp_path_factory.mktemp("near")) as world:
        bench = NearBench(tmp_path_factory.mktemp("nearby"), world)
        try:
            made = FarNearby(bench, world)
            made.launch("local")
            yield made
        finally:
            bench.clean()


@pytest.fixture(name="path")
def _path() -> str:
    return f"/{secrets.token_hex(8)}"


def test_delivers_an_allowed_request_exactly_once(far: Far, path: str) -> None:
    assert far.curl(far.url(path)) == "200 200"
    (request,) = far.world.requests(path)
    assert (request["method"], request["host"]) == ("GET", far.world.name("web"))


def test_delivers_a_body_whole_and_once(far: Far, path: str) -> None:
    assert far.curl(f"--data-binary @/usr/bin/curl {far.url(path)}") == "200 200"
    (request,) = far.world.requests(path)
    size = int(far.bench.inside(GUEST, "stat -Lc %s /usr/bin/curl").out)
    assert (request["method"], request["bytes"]) == ("POST", size)


@pytest.mark.parametrize("tool", ["python-urllib", "wget", "empty environment", *OF_THE_IMAGE])
def test_lets_every_tool_through_to_an_allowed_host(far: Far, path: str, tool: str) -> None:
    if tool in OF_THE_IMAGE and isinstance(far, FarNearby):
        pytest.skip("is a tool of the image")
    url = far.url(path)
    script = {
        "python-urllib": f"""python3 -c 'import urllib.request as r; print(r.urlopen("{url}").read().decode())'""",
        "python-requests": f"""python3 -c 'import requests; print(requests.get("{url}").text)'""",
        "node": f"""node -e 'fetch("{url}").then(r => r.text()).then(console.log)'""",
        "wget": f"wget -qO- {url}",
        "empty environment": f"env -i /usr/bin/curl -sS -x $https_proxy {url}",
    }[tool]
    ended = far.bench.inside(GUEST, script)
    assert "hello from outside: GET 0" in ended.out, ended.err
    assert len(far.world.requests(path)) == 1


DENIED = {
    "a host without a rule": "https://denied.{domain}{path}",
    "a host without a rule, plain": "http://denied.{domain}{path}",
    "the allowed host, plain": "http://web.{domain}{path}",
    "the allowed host on another port": "https://web.{domain}:8443{path}",
    "the address instead of the name": "-k https://{address}{path}",
    "the address as a number": "-k https://{number}{path}",
    "another name in the Host header": "-H 'Host: denied.{domain}' https://web.{domain}{path}",
    "another name in the CONNECT": "--connect-to web.{domain}:443:denied.{domain}:443 https://web.{domain}{path}",
    "a redirect to a denied host": "-L https://web.{domain}/redirect/denied.{domain}{path}",
}


@pytest.mark.parametrize("case", DENIED)
def test_never_delivers_a_denied_request(far: Far, path: str, case: str) -> None:
    address = far.world.address
    number = int.from_bytes(bytes(map(int, address.split("."))), "big")
    words = DENIED[case].format(domain=far.world.name("")[1:], path=path, address=address, number=number)
    assert far.fails(words) < 10
    assert far.world.requests(path) == []
    port, label = (8443 if ":8443" in words else 443), ("denied" if "//denied" in words else "web")
    far.world.control(
        far.url(path, label) if port == 443 else f"https://{far.world.name(label)}:8443{path}", label, port
    )
    assert len(far.world.requests(path)) == 1, "the control came through, so the server would have counted"


def test_opens_no_tunnel_for_a_refused_or_self_answered_request(far: Far, path: str) -> None:
    before = far.tunnels()
    for denied in (far.url(path, "denied"), far.url(path, "denied", "http"), f"https://{far.world.name()}:8443{path}"):
        far.fails(denied)
    answered = far.bench.inside(GUEST, "curl -sS https://gate.bottle-fsm.internal/")
    assert json.loads(answered.out)["gate"] == "ok"
    assert far.tunnels() == before
    assert far.curl(far.url(path)) == "200 200"
    assert far.tunnels() == before + 1, "an allowed one does open one"


def test_keeps_each_decision_of_both_sidecars(far: Far, path: str) -> None:
    before = json.loads(far.bench.ok("status", GUEST, "--json", "--drift").out)["egress"]
    assert far.curl(f"'{far.url(path)}?word=of-nobody'") == "200 200"
    far.fails(far.url(path, "denied"))
    lines = [json.loads(line) for line in far.bench.ok("logs", GUEST, "--egress", "--tail", "5").out.splitlines()]
    mine = [line for line in lines if line["host"] != "gate.bottle-fsm.internal"]  # the self-test's last question
    allowed, refused = (line for line in mine if line["source"] == "interceptor" and line["event"] == "decision")
    assert (allowed["path"], allowed["action"]) == (path, "allow")
    assert (refused["host"], refused["reason"]) == (far.world.name("denied"), "not_listed")
    assert [line["host"] for line in lines if line["event"] == "tunnel_open"] == [far.world.name("web")]
    after = json.loads(far.bench.ok("status", GUEST, "--json").out)["egress"]
    assert (after["allow"], after["deny"]) == (before["allow"] + 1, before["deny"] + 1)
    far.bench.ok("logs", GUEST, "--egress")
    assert far.bench.ok("logs", GUEST, "--egress", "--tail", "5").out.splitlines() == [json.dumps(x) for x in lines]


DIRECT = {
    "no proxy": "curl -sS -m 5 --noproxy '*' --resolve {name}:443:{address} https://{name}{path}",
    "no environment": "env -i /usr/bin/curl -sS -m 5 --noproxy '*' -k https://{address}{path}",
    "a socket": "timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/443'",
    "ssh": "timeout 5 nc -z {address} 22",
}


@pytest.mark.parametrize("case", DIRECT)
def test_has_no_direct_path_and_fails_fast(far: Far, path: str, case: str) -> None:
    script = DIRECT[case].format(name=far.world.name(), address=far.world.address, path=path)
    before = far.arrived()
    inside = f"s=$(date +%s%N); {script}; code=$?; e=$(date +%s%N); echo $code $(( (e - s) / 1000000 ))"
    code, milliseconds = map(int, far.bench.inside(GUEST, inside).out.split()[-2:])
    assert code != 0
    assert milliseconds < 2000
    assert far.arrived() == before
    far.world.control(far.url(path))


def sends_nothing(far: Far, path: str) -> None:
    before = far.arrived()
    assert far.fails(far.url(path)) < 15
    for script in DIRECT.values():
        ended = far.bench.inside(GUEST, script.format(name=far.world.name(), address=far.world.address, path=path))
        assert ended.code != 0
    assert far.arrived() == before


@pytest.mark.parametrize("role", ["guard", "interceptor"])
def test_sends_nothing_without_a_sidecar_and_is_repaired(far: Far, path: str, role: str) -> None:
    ca = far.bench.status(GUEST)["ca_sha256"]
    far.kill(role)
    sends_nothing(far, path)
    assert "is ready, repaired" in far.bench.ok("apply", far.bench.place / "trial.yaml").err
    assert far.curl(far.url(path)) == "200 200"
    assert len(far.world.requests(path)) == 1
    assert far.bench.status(GUEST)["ca_sha256"] == ca


@pytest.mark.parametrize("role", ["guard", "interceptor"])
def test_sends_nothing_while_a_sidecar_is_paused_nor_late(far: Far, path: str, role: str) -> None:
    with far.paused(role):
        sends_nothing(far, path)
    time.sleep(1)
    assert far.world.requests(path) == [], "a request that was given up is not sent late"
    assert far.curl(far.url(path)) == "200 200"
    assert len(far.world.requests(path)) == 1


def test_listens_to_nobody_outside(far: Far) -> None:
    if isinstance(far.bench, NearBench):
        assert far.bench.world.listening() == {f"{port:04X}" for port in (80, 443, 8443)}, "the outside machine's own"
        return
    assert isinstance(far.bench, Bench)
    container = far.bench.inspect(far.bench.resources(GUEST)["guard"])
    (network,) = (n for name, n in container["NetworkSettings"]["Networks"].items() if name.startswith("outside-test"))
    for port in (8888, 9090):
        code, text = far.world.visit("curl", "-sS", "-m", "3", f"http://{network['IPAddress']}:{port}/health")
        assert code != 0, text
