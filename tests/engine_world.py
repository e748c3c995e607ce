"""The made-up internet on an engine: a container on an internal network of its own, and a visitor beside it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.docker.baseimage import ensure_base
from bottle_fsm.backend.docker.build import build_lock, upstream
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.context import digest_of
from bottle_fsm.backend.docker.errors import SubnetTakenError
from bottle_fsm.backend.docker.pull import image_id
from bottle_fsm.egress.address_space import is_public
from outside_keys import Keys
from outside_world import OutsideWorld

HERE: Final = Path(__file__).resolve().parent
DATA: Final = HERE.parent / ".build" / "images"
PACKAGES: Final = ("bash", "ca-certificates", "curl", "git", "openssh-server", "openssl", "python3", "tini")
READY_SECONDS: Final = 30.0
_DOCKERFILE: Final = """\
ARG BASE
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
RUN command -v sshd >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends PACKAGES; }
RUN useradd --create-home --shell /bin/bash git && usermod -p '*' git && mkdir -p /run/sshd /etc/outside /srv/git \\
    && git config --system safe.directory '*'
COPY outside_server.py /usr/local/lib/outside_server.py
ENTRYPOINT []
CMD ["tini", "--", "python3", "/usr/local/lib/outside_server.py"]
""".replace("PACKAGES", " ".join(PACKAGES))


def world_image(engine: Engine) -> str:
    """Return the image of the made-up internet's machine, built if it is not on the engine."""
    digest = digest_of({"outside_server.py": HERE / "outside_server.py"}, _DOCKERFILE)[:16]
    tag = f"bottle-test-outside:{digest}"
    with build_lock(DATA, "outside", print):
        if image_id(engine, tag) is None:
            _build(engine, tag)
    return tag


def _build(engine: Engine, tag: str) -> None:
    scratch = DATA / "scratch-outside"
    scratch.mkdir(parents=True, exist_ok=True)
    base = ensure_base(
        engine,
        upstream=upstream("base"),
        suite=upstream("suite"),
        name="outside",
        packages=PACKAGES,
        say=print,
        environ=os.environ,
        scratch=scratch,
    )
    context = archive(
        {"Dockerfile": _DOCKERFILE.encode(), "outside_server.py": (HERE / "outside_server.py").read_bytes()}
    )
    with engine.guarded(f"build {tag}", timeout=600.0) as api:
        lines = list(
            api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                tag=tag,
                buildargs={"BASE": base.ref},
                network_mode="none" if base.complete else "host",
                rm=True,
                decode=True,
            )
        )
    assert image_id(engine, tag), lines[-5:]


def archive(files: dict[str, bytes], *, mode: int = 0o644) -> bytes:
    """Return a tar of files that belong to root; sshd refuses a private key that all may read."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600 if b"PRIVATE KEY" in content else mode
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


class EngineWorld(OutsideWorld):
    """The machine, its network, and a visitor on the same network whose requests are the controls."""

    def __init__(self, engine: Engine, keys: Keys, network: tuple[str, str], address: str) -> None:
        super().__init__(keys, address)
        self.authority = "/etc/outside/ca.pem"
        self.engine = engine
        self.network, self.network_id = network
        self.machine = self.visitor = ""

    def egress(self, *labels: str, allow: list[Any] | None = None) -> dict[str, Any]:
        """Return `egress` of a manifest, with the network on which the machine is."""
        return {**super().egress(*labels, allow=allow), "network": self.network}

    def log(self) -> str:
        """Return all that the machine wrote."""
        with self.engine.guarded("read the outside world's log") as api:
            raw: bytes = api.logs(self.machine)
        return raw.decode(errors="replace")

    def visit(self, *argv: str) -> tuple[int, str]:
        """Run a command on the visitor, which stands where only a guard stands otherwise."""
        with self.engine.guarded("visit the outside world", timeout=60.0) as api:
            made = api.exec_create(self.visitor, list(argv))
            output: bytes = api.exec_start(made["Id"])
            return int(api.exec_inspect(made["Id"])["ExitCode"]), output.decode(errors="replace")

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self, image: str) -> None:
        """Bring machine and visitor up."""
        self.machine = self._run(image, None, self.keys.of_machine(), address=self.address)
        ca = (self.keys.where / "ca.pem").read_bytes()
        self.visitor = self._run(image, ["tini", "--", "sleep", "infinity"], {"ca.pem": ca})
        end = time.monotonic() + READY_SECONDS
        while not self.seen("ready"):
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def _run(self, image: str, command: list[str] | None, files: dict[str, bytes], *, address: str = "") -> str:
        with self.engine.guarded("start the outside world", timeout=60.0) as api:
            place = api.create_endpoint_config(ipv4_address=address or None)
            networking = api.create_networking_config({self.network: place})  # type: ignore[arg-type]  # the stub is wrong
            made: str = api.create_container(
                image,
                command,
                labels={"bottle-test": self.network},
                host_config=api.create_host_config(network_mode=self.network),
                networking_config=networking,
            )["Id"]
            api.put_archive(made, "/etc/outside", archive(files))
            api.start(made)
        return made

    def stop(self) -> None:
        """Take everything away, with what a failed test left on the network."""
        with self.engine.guarded("take the outside world away", timeout=60.0) as api:
            for found in api.containers(all=True, filters={"label": f"bottle-test={self.network}"}):
                api.remove_container(found["Id"], force=True, v=True)
            for member in api.inspect_network(self.network_id).get("Containers") or {}:
                api.disconnect_container_from_network(member, self.network_id, force=True)
            api.remove_network(self.network_id)


@contextlib.contextmanager
def outside_world(engine: Engine, where: Path) -> Iterator[EngineWorld]:
    """Give a made-up internet for the time of the body."""
    image = world_image(engine)
    name = f"outside-test-{secrets.token_hex(4)}"
    network_id, address = _network(engine, name)
    world = EngineWorld(engine, Keys(where), (name, network_id), address)
    try:
        world.start(image)
        yield world
    finally:
        world.stop()


def _network(engine: Engine, name: str) -> tuple[str, str]:
    """Make an internal network with a public-looking subnet; return its id and the machine's address."""
    from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415 - as the product does: imported where it is used

    while True:
        prefix = f"22.{random.randint(1, 254)}.{random.randint(1, 254)}"
        assert is_public(f"{prefix}.2"), "the guard has to take it for the real internet"
        pool = IPAMPool(subnet=f"{prefix}.0/24", gateway=f"{prefix}.1")
        try:
            with engine.guarded(f"create network {name}") as api:
                made = api.create_network(
                    name,
                    driver="bridge",
                    internal=True,
                    options={"com.docker.network.bridge.inhibit_ipv4": "true"},
                    ipam=IPAMConfig(driver="default", pool_configs=[pool]),
                    check_duplicate=True,
                )
        except SubnetTakenError:
            continue
        return str(made["Id"]), f"{prefix}.2"
