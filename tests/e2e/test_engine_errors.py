"""An engine that is not there, does not let us in, or has no room: a clear sentence, and nothing foreign is touched."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm import naming
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import SubnetTakenError
from bottle_fsm.backend.docker.images import ImageRef
from cli_shell import Ended
from e2e_bench import Bench, Person, simple

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
NOBODY = 65534


def hint(ended: Ended) -> str:
    """Return the last error's text, which has to be more than one sentence, and no traceback."""
    assert "Traceback" not in ended.err
    (text,) = re.findall(r"^error: (.*(?:\n(?!error: ).*)*)", ended.err, re.MULTILINE)
    assert len(re.findall(r"[.)]\s+\S", text)) >= 1, f"no hint in: {text}"
    return str(text)


def test_says_that_no_engine_answers(tmp_path: Path) -> None:
    person = Person(tmp_path, f"unix://{tmp_path}/nowhere.sock")
    ended = person.run("apply", person.write(simple()), "--backend", "docker")
    assert ended.code in {1, 5}
    assert "nowhere.sock" in hint(ended)
    assert "make engine" in ended.err or "Start" in ended.err


def test_says_that_the_socket_may_not_be_used(tmp_path: Path) -> None:
    place = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        os.chown(place, NOBODY, NOBODY)
        place.chmod(0o600)
        person = Person(tmp_path, f"unix://{place}")
        # root without the power to pass file permissions is a user like any other
        person.program = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *person.program]
        ended = person.run("apply", person.write(simple()), "--backend", "docker")
    assert ended.code in {1, 5}
    assert "permission" in hint(ended).lower()
    assert str(place) in ended.err
    assert "group" in ended.err, "the usual remedy is named"


def test_names_the_image_that_is_missing(bench: Bench) -> None:
    image = f"registry.invalid/nobody/nothing:{secrets.token_hex(4)}"
    ended = bench.run("apply", bench.write(simple(image=image)))
    assert ended.code == 5
    assert image in hint(ended)
    assert bench.left() == []


@contextmanager
def foreign_network(engine: Engine, name: str, subnet: str = "") -> Iterator[str]:
    """A network that is not ours, for the time of the body; it has to be there afterwards."""
    from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415 - as the product does: imported where it is used

    pools = [IPAMPool(subnet=subnet)] if subnet else []
    with engine.guarded("make a foreign network") as api:
        made = api.create_network(name, driver="bridge", internal=True, ipam=IPAMConfig(pool_configs=pools))["Id"]
    try:
        yield made
    finally:
        with engine.guarded("remove the foreign network") as api:
            assert api.inspect_network(made)["Id"] == made, "it was not touched"
            api.remove_network(made)


def test_says_that_the_address_pool_is_spent(bench: Bench) -> None:
    number = secrets.randbelow(200) + 20
    manifest: dict[str, Any] = {**simple(), "networks": {"pool": [f"10.203.{number}.0/28"], "prefix": 29}}
    name = f"foreign-{secrets.token_hex(4)}"
    try:
        with foreign_network(bench.engine, name, f"10.203.{number}.8/29"):
            ended = bench.run("apply", bench.write(manifest))
    except SubnetTakenError:
        pytest.fail("another test uses this pool")
    assert ended.code == 5
    text = hint(ended)
    assert f"10.203.{number}.0/28" in text
    assert "free" in text
    assert "networks" in text, "the key to change is named"
    assert bench.left() == []


@pytest.mark.parametrize("role", [naming.ROLE_GUARD, naming.ROLE_AGENT])
def test_does_not_touch_a_foreign_container_that_has_the_name(
    bench: Bench, images: dict[str, ImageRef], role: str
) -> None:
    name = bench.object_name(role, GUEST)
    with bench.engine.guarded("make a foreign container") as api:
        config = api.create_host_config(network_mode="none")
        foreign = api.create_container(images["sidecar"].id, ["sleep", "600"], name=name, host_config=config)["Id"]
        api.start(foreign)
    try:
        before = bench.inspect(foreign)
        ended = bench.run("apply", bench.write(simple()))
        assert ended.code == 5
        assert name in hint(ended)
        after = bench.inspect(foreign)
        assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
        assert after["State"]["Running"]
        assert bench.left() == [name]
        bench.run("destroy", GUEST, "--yes")
        assert bench.inspect(foreign)["State"]["Running"]
    finally:
        with bench.engine.guarded("remove the foreign container") as api:
            api.remove_container(foreign, force=True)
    assert bench.left() == []


def test_does_not_touch_a_foreign_network_that_has_the_name(bench: Bench) -> None:
    name = bench.object_name(naming.ROLE_NET_BETWEEN, GUEST)
    with foreign_network(bench.engine, name):
        ended = bench.run("apply", bench.write(simple()))
        assert ended.code == 5
        assert name in hint(ended)
        assert bench.left() == [name]
    assert bench.left() == []
