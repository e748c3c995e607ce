"""What carries our labels on a real engine is listed and removed; what does not is not."""

from __future__ import annotations

import contextlib
import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.backend import DockerBackend
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.errors import BackendError
from bottle_fsm.model import Host
from bottle_fsm.naming import Labels
from docker_backend.memory_steps import MemorySteps

pytestmark = pytest.mark.engine


@pytest.fixture
def root(engine: Engine) -> Iterator[str]:
    """A state root's id under which an image-less container, a network and a volume were made."""
    made = f"test-{uuid.uuid4().hex[:8]}"
    image = f"bottle-test-empty:{made}"
    with engine.guarded("prepare") as api:
        api.import_image_from_data(_one_file(), repository=image.partition(":")[0], tag=made)
        api.create_container(image, ["/nothing"], name=f"{made}-c", labels=_labels(made, "guard"))
        api.create_network(f"{made}-n", labels=_labels(made, "net-inside"), internal=True)
        api.create_network(f"{made}-half", labels={"bottle-fsm.root": made}, internal=True)
        api.create_volume(f"{made}-v", labels=_labels(made, "volume"))
    yield made
    removals = {
        f"{made}-c": "remove_container",
        f"{made}-n": "remove_network",
        f"{made}-half": "remove_network",
        f"{made}-v": "remove_volume",
        image: "remove_image",
    }
    for name, call in removals.items():
        with contextlib.suppress(BackendError), engine.guarded("clean up") as api:
            getattr(api, call)(name)


def _one_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    return stream.getvalue()


def _labels(root: str, role: str) -> dict[str, str]:
    return Labels(root, "demo/one", "launch-1", role, f"create {role}", "s", 3).as_dict()


def test_lists_and_removes_what_is_ours_and_nothing_else(engine: Engine, root: str, tmp_path: Path) -> None:
    backend = DockerBackend(Host(root, tmp_path, tmp_path, {"DOCKER_HOST": engine.url}))
    found = {r.kind: r for r in backend.everything(root)}
    assert {kind: r.name.removeprefix(root) for kind, r in found.items()} == {
        "container": "-c",
        "network": "-n",
        "volume": "-v",
    }
    assert {(r.launch, r.epoch, r.detail["bottle"], r.detail["root"]) for r in found.values()} == {
        ("launch-1", 3, "demo/one", root)
    }
    assert len({r.detail["engine"] for r in found.values()}) == 1
    assert found["container"].state == "created"
    assert {r.id for r in found.values()} <= {r.id for r in backend.everything(None)}
    steps = MemorySteps()
    for kind in ("container", "network", "volume"):
        backend.remove(found[kind], steps, cause="gc")
    assert backend.everything(root) == ()
    assert [name for name, _ in steps.done] == ["remove guard", "remove net-inside", "remove volume"]
    with engine.guarded("look") as api:
        assert [n["Name"] for n in api.networks(names=[f"{root}-half"])] == [f"{root}-half"], "half labelled: not ours"
