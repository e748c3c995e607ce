"""A guard whose image does not start: said at once, with its own words, and taken away; or kept until it is mended.

The program runs from a copy of the package with a comment of its own in it: its sidecar image has a tag of its own, and
what this test puts under that tag disturbs nobody.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from e2e_bench import CONTAINER_ROLES, REPO, Bench, simple
from engine_world import archive

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
MODULE = "/usr/local/lib/python3.13/dist-packages/bottle_fsm/egress/guard.py"
WORDS = "the guard of this image is broken beyond repair"
BROKEN = {
    "a guard that ends at once": (MODULE, f"raise SystemExit({WORDS!r})\n", WORDS),
    "a file that cannot be executed": ("/usr/bin/tini", "no program\n", "exec format error"),
}
_RUN = "from bottle_fsm.cli.main import main; main()"


@dataclass
class Own:
    """A copy of the program whose sidecar image has a tag of its own."""

    bench: Bench
    good: str
    tag: str

    def put(self, image: str) -> None:
        """Let the tag mean an image."""
        name, _, version = self.tag.partition(":")
        with self.bench.engine.guarded("tag the sidecar of this test") as api:
            api.tag(image, name, version, force=True)

    def broken(self, case: str) -> str:
        """Make a broken image of the good one, and return its id."""
        path, content, _ = BROKEN[case]
        directory, _, name = path.rpartition("/")
        with self.bench.engine.guarded("break an image", timeout=60.0) as api:
            made = api.create_container(self.good, ["true"], host_config=api.create_host_config(network_mode="none"))[
                "Id"
            ]
            try:
                api.put_archive(made, directory, archive({name: content.encode()}, mode=0o755))
                return str(api.commit(made)["Id"])
            finally:
                api.remove_container(made, force=True)


@pytest.fixture(name="own")
def _own(bench: Bench, images: dict[str, ImageRef], tmp_path: Path) -> Iterator[Own]:
    copy = tmp_path / "copy"
    for part in ("bottle_fsm", "images", "states"):
        shutil.copytree(REPO / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "bottle_fsm/egress/guard.py").open("a") as module:
        module.write(f"# {tmp_path}\n")
    bench.env["PYTHONPATH"] = str(copy)
    bench.program = [sys.executable, "-P", "-c", _RUN]
    tag = _tag(bench)
    assert tag != images["sidecar"].tag, "the copy has an image of its own"
    own = Own(bench, images["sidecar"].id, tag)
    yield own
    bench.clean()
    with bench.engine.guarded("remove the images of this test") as api:
        if api.images(tag):
            api.remove_image(tag, force=True)


def _tag(bench: Bench) -> str:
    """Ask the copy for the tag of its sidecar image."""
    program, bench.program = bench.program, [sys.executable, "-P", "-c"]
    try:
        script = f"from bottle_fsm.backend.docker.images import image_tag; print(image_tag('sidecar', arch={bench.engine.arch!r}))"  # noqa: E501 - one line of Python
        return bench.ok(script).out.strip()
    finally:
        bench.program = program


def forget(engine: Engine, image: str) -> None:
    """Remove a broken image."""
    with engine.guarded("remove a broken image") as api:
        api.remove_image(image, force=True)


@pytest.mark.parametrize("case", BROKEN)
def test_fails_at_once_with_the_guards_own_words_and_leaves_nothing(own: Own, case: str) -> None:
    bench, image = own.bench, own.broken(case)
    own.put(image)
    started = time.monotonic()
    ended = bench.run("apply", bench.write(simple()))
    took = time.monotonic() - started
    forget(bench.engine, image)
    assert ended.code == 5, ended.err
    assert "proxies_up" in ended.err
    assert BROKEN[case][2] in ended.err, "the sidecar's own error"
    failed = [event for event in bench.events(GUEST) if event["kind"] == "failed"]
    assert {event["dest"] for event in failed} == {"proxies_up"}
    step = next(e for e in bench.events(GUEST) if e["kind"] == "step_intent" and "guard" in e["evidence"]["step"])
    waited = max(event["monotonic"] for event in failed) - step["monotonic"]
    assert waited < 10, "seen at once, not at a timeout"
    assert took < 60
    assert bench.left() == []
    assert bench.status(GUEST)["outcome"] == "torn_down"
    bench.ok("audit", "verify")


def test_stays_when_kept_and_resumes_after_the_image_is_mended(own: Own) -> None:
    bench, image = own.bench, own.broken("a guard that ends at once")
    own.put(image)
    kept = bench.run("apply", bench.write(simple()), "--on-failure", "keep")
    assert kept.code == 5, kept.err
    assert "kept" in kept.err
    assert f"resume {GUEST}" in kept.err
    assert bench.left() != []
    assert bench.status(GUEST)["state"] == "planned"
    again = bench.run("resume", GUEST)
    assert again.code == 5, "it is as broken as before, and as kept"
    assert bench.left() != []

    own.put(own.good)
    resumed = bench.ok("resume", GUEST)
    assert "is ready, resumed" in resumed.err
    now = bench.resources(GUEST)
    assert set(CONTAINER_ROLES) <= set(now)
    assert bench.inspect(now["guard"])["Image"] == own.good
    bench.ok("destroy", GUEST, "--yes")
    forget(bench.engine, image)
    assert bench.left() == []
