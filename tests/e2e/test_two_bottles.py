"""Two bottles of one manifest, launched side by side on one outside network, that know nothing of each other."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from e2e_bench import CONTAINER_ROLES, Bench, simple
from outside_world import OutsideWorld

pytestmark = [pytest.mark.engine]
BOTTLES = ("trial/left", "trial/right")


@pytest.fixture(scope="module", name="two")
def _two(shared: Bench, world: OutsideWorld) -> Bench:
    manifest: dict[str, Any] = simple(egress=world.egress("web"))
    manifest["agents"] = {name.partition("/")[2]: {"bottle": "room"} for name in BOTTLES}
    ended = shared.ok("apply", shared.write(manifest), "--parallel", "2")
    for bottle in BOTTLES:
        assert f"{bottle}: is ready\n" in ended.err
    return shared


def addresses(bench: Bench, bottle: str) -> list[str]:
    """Return every address that a bottle's containers have."""
    found = bench.resources(bottle)
    places = [bench.inspect(found[role])["NetworkSettings"]["Networks"] for role in CONTAINER_ROLES]
    return [network["IPAddress"] for networks in places for network in networks.values()]


def test_gives_each_its_own_objects_and_its_own_ca(two: Bench) -> None:
    left, right = (two.resources(bottle) for bottle in BOTTLES)
    assert set(left) == set(right)
    assert not set(left.values()) & set(right.values())
    assert two.status(BOTTLES[0])["ca_sha256"] != two.status(BOTTLES[1])["ca_sha256"]


def test_lets_each_reach_the_outside(two: Bench, world: OutsideWorld) -> None:
    for bottle in BOTTLES:
        path = f"/{secrets.token_hex(8)}"
        assert two.inside(bottle, f"curl -sSf https://{world.name()}{path}").code == 0
        assert len(world.requests(path)) == 1


@pytest.mark.parametrize(("here", "there"), [BOTTLES, BOTTLES[::-1]])
def test_lets_no_neighbour_in(two: Bench, here: str, there: str) -> None:
    targets = addresses(two, there)
    assert len(targets) == 5
    ports = (22, 53, 8080, 8081, 8082, 8888, 9090)
    knock = 'for target in {}; do nc -z -w 2 "${{target%:*}}" "${{target#*:}}" && echo "open $target"; done; true'
    neighbours = [f"{address}:{port}" for address in targets for port in ports]
    assert "open" not in two.inside(here, knock.format(" ".join(neighbours)), seconds=120).out
    # the control: the same knock finds the same ports open from where they belong
    own = two.inside(there, knock.format(" ".join(neighbours)), seconds=120).out.split()
    assert own.count("open") == 2, "its interceptor's proxy and relay, and nothing else"


@pytest.mark.parametrize(("here", "there"), [BOTTLES, BOTTLES[::-1]])
def test_reaches_no_neighbour_through_its_own_proxy(two: Bench, here: str, there: str) -> None:
    names = [two.object_name(role, there) for role in CONTAINER_ROLES]
    hosts = " ".join((*names, *addresses(two, there)))
    curl = "curl -sS -m 10 -o /dev/null -w '%{http_code} ' http://$host:8080/"
    statuses = two.inside(here, f"for host in {hosts}; do {curl}; done").out.split()
    assert len(statuses) == len(names) + 5
    assert set(statuses) <= {"000", "403"}
    known = two.inside(here, f"for name in {' '.join(names)}; do getent hosts $name; done; true")
    assert known.out == "", "a neighbour's name is unknown"


def test_destroys_one_and_leaves_the_other(two: Bench) -> None:
    two.ok("destroy", BOTTLES[0], "--yes")
    gone, stays = (two.object_name("agent", bottle) for bottle in BOTTLES)
    assert gone not in two.left()
    assert stays in two.left()
    assert two.inside(BOTTLES[1], "curl -sS https://gate.bottle-fsm.internal/").code == 0
    two.ok("destroy", "--all", "--yes")
    assert two.left() == []
    two.ok("audit", "verify")
