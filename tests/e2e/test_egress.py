"""What leaves a bottle, counted where it arrives: at a real TLS server of a made-up internet."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass

import pytest

from e2e_bench import Bench, simple
from outside_world import OutsideWorld

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
CURL = "curl -sS -m 15 -o /dev/null -w '%{http_code} %{http_connect}'"


@dataclass
class Far:
    """A bottle that may reach `web` of the made-up internet and nothing else."""

    bench: Bench
    world: OutsideWorld

    def curl(self, words: str) -> str:
        """Run curl inside; return the statuses of the answer and of the proxy's CONNECT."""
        return self.bench.inside(GUEST, f"{CURL} {words}").out

    def fails(self, words: str) -> float:
        """Run curl inside, see it fail, and return how long that took."""
        started = time.monotonic()
        ended = self.bench.inside(GUEST, f"curl -sSf -m 15 -o /dev/null {words}")
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


@pytest.fixture(scope="module", name="far")
def _far(shared: Bench, world: OutsideWorld) -> Far:
    egress = world.egress("web", "denied", "other", allow=[world.name("web")])
    shared.ok("apply", shared.write(simple(egress=egress)))
    return Far(shared, world)


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


@pytest.mark.parametrize("tool", ["python-requests", "node", "wget", "empty environment"])
def test_lets_every_tool_through_to_an_allowed_host(far: Far, path: str, tool: str) -> None:
    url = far.url(path)
    script = {
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


def _wounded(far: Far, role: str, how: str) -> str:
    """Kill or pause a sidecar; return its id."""
    container = far.bench.resources(GUEST)[role]
    with far.bench.engine.guarded(f"{how} {role}") as api:
        api.kill(container) if how == "kill" else api.pause(container)
    return container


@pytest.mark.parametrize("how", ["kill", "pause"])
@pytest.mark.parametrize("role", ["guard", "interceptor"])
def test_sends_nothing_without_a_sidecar_and_is_repaired(far: Far, path: str, role: str, how: str) -> None:
    ca = far.bench.status(GUEST)["ca_sha256"]
    container = _wounded(far, role, how)
    before = far.arrived()
    assert far.fails(far.url(path)) < 20
    for script in DIRECT.values():
        ended = far.bench.inside(GUEST, script.format(name=far.world.name(), address=far.world.address, path=path))
        assert ended.code != 0
    assert far.arrived() == before
    if how == "pause":
        with far.bench.engine.guarded(f"let {role} go on") as api:
            api.unpause(container)
        time.sleep(1)
        assert far.world.requests(path) == [], "a request that was given up is not sent late"
    else:
        repaired = far.bench.ok("apply", far.bench.place / "trial.yaml")
        assert "is ready, repaired" in repaired.err
    assert far.curl(far.url(path)) == "200 200"
    assert len(far.world.requests(path)) == 1
    assert far.bench.status(GUEST)["ca_sha256"] == ca


def test_listens_to_nobody_on_the_guard_s_outside(far: Far) -> None:
    container = far.bench.inspect(far.bench.resources(GUEST)["guard"])
    address = container["NetworkSettings"]["Networks"][far.world.network]["IPAddress"]
    for port in (8888, 9090):
        code, text = far.world.visit("curl", "-sS", "-m", "3", f"http://{address}:{port}/health")
        assert code != 0, text
