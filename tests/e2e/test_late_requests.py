"""A request that is on its way when the launcher is killed arrives afterwards: it is waited for, never doubled."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_bench import CONTAINER_ROLES, Bench, kill_hard, simple, wait_for

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
LATE = 0.4
"""Seconds after the launcher's death at which the held request reaches the engine; the settle time is 1 s."""


class SlowRoad:
    """A socket in front of the engine's that holds the first request of a kind until told to let it go."""

    def __init__(self, place: Path, engine: str, held: str) -> None:
        self.path = place / "road.sock"
        self._engine = engine
        self._held = re.compile(held.encode())
        self.caught, self.go = threading.Event(), threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            threading.Thread(target=self._both, args=(client, engine), daemon=True).start()

    def _both(self, client: socket.socket, engine: socket.socket) -> None:
        """Carry bytes both ways until both ends are done; a request of a dead client is answered all the same."""
        up = threading.Thread(target=self._up, args=(client, engine), daemon=True)
        up.start()
        alive = True
        while data := engine.recv(1 << 16):
            try:
                if alive:
                    client.sendall(data)
            except OSError:
                alive = False
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        up.join()
        client.close()
        engine.close()

    def _up(self, client: socket.socket, engine: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if not self.caught.is_set() and self._held.match(data):
                    self.caught.set()
                    self.go.wait()
                    time.sleep(LATE)
                engine.sendall(data)
        with contextlib.suppress(OSError):
            engine.shutdown(socket.SHUT_WR)


@pytest.fixture
def road(bench: Bench, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SlowRoad]:
    made = SlowRoad(tmp_path, bench.engine.url.removeprefix("unix://"), request.param)
    bench.env["DOCKER_HOST"] = f"unix://{made.path}"
    yield made
    made.close()


def killed_while_asking(bench: Bench, road: SlowRoad) -> None:
    process = bench.spawn("apply", bench.write(simple()), "--json")
    wait_for(road.caught.is_set, seconds=60, what="the request that is held")
    kill_hard(process)
    road.go.set()


CREATE_GUARD = r"POST /v[0-9.]+/containers/create\?name=claude-bottle-pipelock-"
CREATE_NETWORK = r"POST /v[0-9.]+/networks/create"


@pytest.mark.parametrize("road", [CREATE_GUARD, CREATE_NETWORK], indirect=True, ids=["a container", "a network"])
def test_adopts_what_arrives_after_the_launcher_died(bench: Bench, road: SlowRoad) -> None:
    killed_while_asking(bench, road)
    bench.ok("resume", GUEST)
    assert bench.status(GUEST)["outcome"] == "ready"
    with bench.engine.guarded("list") as api:
        labels = {"label": f"bottle-fsm.root={bench.root_id}"}
        containers = [c["Labels"]["bottle-fsm.role"] for c in api.containers(all=True, filters=labels)]
        networks = [n["Labels"]["bottle-fsm.role"] for n in api.networks(filters=labels)]
    assert sorted(containers) == sorted(CONTAINER_ROLES)
    assert sorted(networks) == ["net-between", "net-inside", "net-outside"]
    bench.ok("destroy", GUEST, "--yes")
    assert bench.left() == []
    bench.ok("audit", "verify")


@pytest.mark.parametrize("road", [CREATE_GUARD], indirect=True, ids=["a container"])
def test_is_not_torn_down_before_a_late_request_could_arrive(bench: Bench, road: SlowRoad) -> None:
    killed_while_asking(bench, road)
    bench.ok("destroy", GUEST, "--yes")
    assert bench.status(GUEST)["state"] == "torn_down"
    assert bench.left() == []
    time.sleep(2 * LATE)
    assert bench.left() == []
