"""The door against the real engine: what its own refusals become, and its identity."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from docker.types import IPAMConfig, IPAMPool

from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.endpoint import Endpoint
from bottle_fsm.backend.docker.errors import ConflictError, ObjectGoneError, SubnetTakenError
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.errors import BackendError, ImageMissingError, NameTakenError

pytestmark = pytest.mark.engine


@pytest.fixture
def made(engine: Engine) -> Iterator[Callable[[str, str], None]]:
    """Note objects that a test made; they are removed afterwards."""
    objects: list[tuple[str, str]] = []
    yield lambda kind, identity: objects.append((kind, identity))
    with engine.guarded("clean up") as api:
        for kind, identity in reversed(objects):
            if kind == "container":
                api.remove_container(identity, force=True, v=True)
            else:
                api.remove_network(identity)


def create(engine: Engine, image: str, name: str) -> str:
    with engine.guarded(f"create container {name}") as api:
        return str(api.create_container(image, ["true"], name=name)["Id"])


def test_tells_a_taken_container_name(
    engine: Engine, images: dict[str, ImageRef], made: Callable[[str, str], None]
) -> None:
    name = f"door-test-{uuid.uuid4().hex[:8]}"
    made("container", create(engine, images["agent"].id, name))
    with pytest.raises(NameTakenError, match=name):
        create(engine, images["agent"].id, name)


def test_tells_a_taken_network_name_and_a_taken_subnet(engine: Engine, made: Callable[[str, str], None]) -> None:
    name = f"door-test-{uuid.uuid4().hex[:8]}"
    ipam = IPAMConfig(pool_configs=[IPAMPool(subnet="10.213.7.0/29")])
    with engine.guarded("create network") as api:
        made("network", api.create_network(name, ipam=ipam, internal=True, check_duplicate=True)["Id"])
    with pytest.raises(NameTakenError, match=name), engine.guarded("create network") as api:
        api.create_network(name, internal=True, check_duplicate=True)
    with pytest.raises(SubnetTakenError, match="overlap"), engine.guarded("create network") as api:
        api.create_network(f"{name}-b", ipam=ipam, internal=True, check_duplicate=True)


def test_tells_an_image_from_another_object_that_is_gone(engine: Engine) -> None:
    with pytest.raises(ImageMissingError, match="no-such-image"):
        create(engine, "no-such-image:1", f"door-test-{uuid.uuid4().hex[:8]}")
    for ask in ("inspect_container", "inspect_network", "inspect_volume"):
        with pytest.raises(ObjectGoneError), engine.guarded(ask) as api:
            getattr(api, ask)("no-such-object")


def test_tells_a_conflict_with_the_present_state(
    engine: Engine, images: dict[str, ImageRef], made: Callable[[str, str], None]
) -> None:
    identity = create(engine, images["agent"].id, f"door-test-{uuid.uuid4().hex[:8]}")
    made("container", identity)
    with pytest.raises(ConflictError, match="is not running"), engine.guarded("exec") as api:
        api.exec_create(identity, ["true"])


def test_keeps_the_engines_words_for_a_bad_request(engine: Engine, images: dict[str, ImageRef]) -> None:
    with pytest.raises(BackendError, match="Invalid container name") as caught:
        create(engine, images["agent"].id, "no/slash")
    assert type(caught.value) is BackendError


def test_knows_the_engine_again(engine: Engine, engine_host: str) -> None:
    recorded = Endpoint.from_json(engine.endpoint().to_json())
    again = connect({"DOCKER_HOST": "unix:///nowhere"}, endpoint=recorded)
    assert again.endpoint() == engine.endpoint()
    assert recorded.url == engine_host
    assert recorded.engine_id
    assert recorded.root_dir.startswith("/")
    again.close()


def test_is_usable_from_many_threads_and_after_a_close(engine: Engine) -> None:
    def ask(number: int) -> str:
        with engine.guarded("ask", timeout=10.0 + number % 3) as api:
            return str(api.version()["ApiVersion"])

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(40)))
    engine.close()
    assert answers == {ask(0)}
