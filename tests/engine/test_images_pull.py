"""Images that others made, from a real registry on loopback to the real engine."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.docker import pull as pull_module
from bottle_fsm.backend.docker.baseimage import Base, ensure_base
from bottle_fsm.backend.docker.build import upstream
from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.images import ensure_present, pipelock_available
from bottle_fsm.backend.docker.pull import image_id, registry_has
from bottle_fsm.errors import EngineUnavailableError, ImageMissingError
from faulty_engine import GARBAGE, FaultyEngine
from tiny_servers import TinyServer

pytestmark = pytest.mark.engine


@pytest.fixture
def registry() -> Iterator[TinyServer]:
    with TinyServer().running() as server:
        yield server


@pytest.fixture
def ref(registry: TinyServer, engine: Engine) -> Iterator[str]:
    """A reference into the registry that the engine has never seen; removed from the engine afterwards."""
    name = f"{registry.address}/thing"
    yield f"{name}:1"
    with engine.guarded("clean up") as api:
        for image in api.images(name=name):
            api.remove_image(image["Id"], force=True)


def add(registry: TinyServer, engine: Engine, size: int = 10) -> str:
    return registry.add_image("thing", "1", {"hello": uuid.uuid4().bytes * size}, arch=engine.arch)


def test_pulls_a_missing_image_and_says_so(registry: TinyServer, engine: Engine, ref: str) -> None:
    digest = add(registry, engine)
    said: list[str] = []
    image = ensure_present(engine, ref, say=said.append)
    assert (image.tag, image.built, image.digest) == (ref, True, digest)
    assert image.id == image_id(engine, ref)
    assert said == [f"pulling {ref}"]


def test_asks_no_registry_for_an_image_that_is_here(registry: TinyServer, engine: Engine, ref: str) -> None:
    add(registry, engine)
    first = ensure_present(engine, ref, say=print)
    registry.asked.clear()
    second = ensure_present(engine, ref, say=pytest.fail)
    assert (second.id, second.digest, second.built) == (first.id, first.digest, False)
    assert registry.asked == []


def test_pulls_the_recorded_digest_though_the_tag_moved_on(registry: TinyServer, engine: Engine, ref: str) -> None:
    recorded = add(registry, engine)
    moved = add(registry, engine)
    assert moved != recorded
    first = ensure_present(engine, ref, say=print, digest=recorded)
    newer = ensure_present(engine, ref, say=print)
    again = ensure_present(engine, ref, say=pytest.fail, digest=recorded)
    assert (first.digest, newer.digest, again.digest) == (recorded, moved, recorded)
    assert first.id == again.id != newer.id


def test_takes_nothing_else_for_the_recorded_digest(registry: TinyServer, engine: Engine, ref: str) -> None:
    add(registry, engine)
    ensure_present(engine, ref, say=print)
    other = "sha256:" + "0" * 64
    with pytest.raises(ImageMissingError, match=rf"{other} is not on the engine and cannot be pulled"):
        ensure_present(engine, ref, say=print, digest=other)


def test_names_an_image_that_the_registry_does_not_have(registry: TinyServer, engine: Engine, ref: str) -> None:
    add(registry, engine)
    with pytest.raises(ImageMissingError, match=r"cannot be pulled.*docker login"):
        ensure_present(engine, ref.replace(":1", ":2"), say=print)


def test_names_an_image_whose_layer_is_lost(registry: TinyServer, engine: Engine, ref: str) -> None:
    add(registry, engine)
    registry.pages = {path: page for path, page in registry.pages.items() if "/blobs/" not in path}
    with pytest.raises(ImageMissingError, match="cannot be pulled"):
        ensure_present(engine, ref, say=print)


def test_names_an_image_whose_registry_is_out_of_reach(engine: Engine) -> None:
    with pytest.raises(ImageMissingError, match=r"127\.0\.0\.1:1/x:1 is not on the engine and cannot be pulled"):
        ensure_present(engine, "127.0.0.1:1/x:1", say=print)


def test_shows_how_far_a_long_pull_is(
    registry: TinyServer, engine: Engine, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "_SAY_EVERY", 0.0)
    registry.add_image("thing", "1", {"large": os.urandom(8_000_000)}, arch=engine.arch)
    said: list[str] = []
    ensure_present(engine, ref, say=said.append)
    assert any(" MB" in line for line in said)


def test_knows_whether_a_registry_has_an_image_without_fetching_it(
    registry: TinyServer, engine: Engine, ref: str
) -> None:
    add(registry, engine)
    assert registry_has(engine, ref)
    assert not registry_has(engine, ref.replace(":1", ":2"))
    assert not registry_has(engine, "127.0.0.1:1/x:1")
    assert image_id(engine, ref) is None


def test_builds_on_an_upstream_base_where_a_registry_answers(
    registry: TinyServer, engine: Engine, ref: str, tmp_path: Path
) -> None:
    add(registry, engine)
    for expected_to_say in (1, 0):  # the second time it is here, and nobody is asked
        said: list[str] = []
        base = ensure_base(
            engine,
            upstream=ref,
            suite="trixie",
            name="t",
            packages=["none"],
            say=said.append,
            environ={},
            scratch=tmp_path,
        )
        assert base == Base(ref, complete=False)
        assert len([line for line in said if line.startswith("pulling")]) >= expected_to_say
    assert said == []


def test_offers_pipelock_where_its_image_is(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TinyServer().running() as registry:
        registry.add_image("pipelock", "2.3.0", {"pipelock": b"x"}, arch=engine.arch)
        name = f"{registry.address}/pipelock:2.3.0"
        (tmp_path / "upstream.json").write_text(json.dumps({"pipelock": name}))
        monkeypatch.setattr("bottle_fsm.backend.docker.build.data_path", lambda _: tmp_path)
        assert upstream("pipelock") == name
        assert pipelock_available(engine) == name
        assert image_id(engine, name) is None
    assert pipelock_available(engine) is None


def test_tells_an_engine_that_died_from_a_registry_without_the_image(tmp_path: Path) -> None:
    with FaultyEngine(tmp_path / "e.sock").running() as faulty:
        engine = connect({"DOCKER_HOST": faulty.url})
        faulty.answers["/distribution/x:1/json"] = GARBAGE
        assert not registry_has(engine, "x:1")
        engine.close()
    (tmp_path / "e.sock").unlink()
    with pytest.raises(EngineUnavailableError):
        registry_has(engine, "x:1")
    with pytest.raises(EngineUnavailableError):
        pull_module.pull(engine, "x:1", say=print)
