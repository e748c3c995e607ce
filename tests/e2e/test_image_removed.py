"""The name of an image is taken away by hand: the bottle holds the image itself, by its id."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from e2e_bench import Bench, simple
from lean_image import LEAN

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"


@pytest.fixture(name="tag")
def _tag(bench: Bench) -> Iterator[str]:
    tag = f"bottle-test-gone:{secrets.token_hex(4)}"
    put(bench, tag)
    yield tag
    bench.clean()
    take_away(bench, tag)


def put(bench: Bench, tag: str) -> None:
    name, _, version = tag.partition(":")
    with bench.engine.guarded("tag an image") as api:
        api.tag(LEAN, name, version)


def take_away(bench: Bench, tag: str) -> None:
    with bench.engine.guarded("remove an image") as api:
        if api.images(tag):
            api.remove_image(tag, force=True)


def test_a_running_bottle_stays_and_a_lost_agent_comes_back_from_the_same_image(bench: Bench, tag: str) -> None:
    manifest = bench.write(simple(image=tag))
    bench.ok("apply", manifest)
    before = bench.resources(GUEST)
    image = bench.inspect(before["agent"])["Image"]
    take_away(bench, tag)
    bench.ok("apply", manifest)
    assert bench.resources(GUEST) == before, "nothing is made again for a name that nothing needs"
    with bench.engine.guarded("lose the agent") as api:
        api.remove_container(before["agent"], force=True)
    assert "agent" in bench.run("status", GUEST, "--drift").out
    assert "is ready, repaired" in bench.ok("apply", manifest, "--yes").err
    after = bench.resources(GUEST)
    assert after["agent"] != before["agent"]
    assert bench.inspect(after["agent"])["Image"] == image
    assert bench.inside(GUEST, "echo well").out == "well\n"
