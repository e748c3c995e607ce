"""A place on the real engine; hands reach it by docker-py, past the backend. The launcher reaches it by a link."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from docker.errors import NotFound

from bottle_fsm import naming
from bottle_fsm.backend.docker.backend import DockerBackend
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.model import Json
from contract.contract_place import CONTAINERS, ROLES, Deviation, Place, Raw
from lean_image import LEAN

_STATES = {"created": "created", "running": "running", "restarting": "running"}


class DockerPlace(Place):
    kind: ClassVar[str] = "docker"
    always: ClassVar[Json] = {"image": LEAN}

    def __init__(self, folder: Path, deviation: Deviation, engine: Engine, images: dict[str, ImageRef]) -> None:
        self.engine = engine
        self.image = images["agent"].id
        self.planted: list[tuple[str, str]] = []
        self.door = Path(tempfile.mkdtemp(prefix="door-"))  # short: a socket's path has 108 bytes
        self.link = self.door / "engine.sock"
        self.link.symlink_to(engine.url.removeprefix("unix://"))
        super().__init__(folder, deviation, {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{self.link}"})

    @contextmanager
    def api(self) -> Iterator[Any]:
        with self.engine.guarded("a test's hand", timeout=60.0) as api:
            yield api

    def raw(self) -> list[Raw]:
        label = {"label": f"{naming.LABEL_ROOT}={self.runtime.root.root_id}"}
        names = {self.name_of(role) for role in ROLES}
        with self.api() as api:
            containers = {c["Id"]: c for c in api.containers(all=True, filters=label)}
            exact = [f"^/{self.name_of(role)}$" for role in CONTAINERS]
            containers |= {c["Id"]: c for c in api.containers(all=True, filters={"name": exact})}
            networks = {n["Id"]: n for n in api.networks(filters=label)}
            networks |= {n["Id"]: n for n in api.networks() if n["Name"] in names}
            volumes = api.volumes(filters=label).get("Volumes") or []
        found = [
            *(_raw(c["Id"], "container", c["Names"][0][1:], c, _state(c)) for c in containers.values()),
            *(_raw(n["Id"], "network", n["Name"], n, "present") for n in networks.values()),
            *(_raw(v["Name"], "volume", v["Name"], v, "present") for v in volumes),
        ]
        return sorted(found, key=lambda r: (r.kind, r.id))

    def visible(self) -> bytes:
        with self.api() as api:
            found = [
                api.inspect_container(r.id) if r.kind == "container" else api.inspect_network(r.id) for r in self.raw()
            ]
        return json.dumps(found).encode()

    def vanish(self, object_id: str) -> None:
        with self.api() as api:
            try:
                api.remove_container(object_id, force=True, v=True)
            except NotFound:
                api.remove_network(object_id)

    def halt(self, object_id: str) -> None:
        with self.api() as api:
            api.kill(object_id)
            api.wait(object_id, timeout=30)

    def plant(self, kind: str, name: str, labels: dict[str, str]) -> str:
        with self.api() as api:
            if kind == "network":
                made = api.create_network(name, labels=labels, internal=True, check_duplicate=False)
            else:
                config = {"Image": self.image, "Cmd": ["sleep", "60"], "Labels": labels}
                config["HostConfig"] = {"NetworkMode": "none"}
                made = api.create_container_from_config(config, name)
        self.planted.append((kind, made["Id"]))
        return str(made["Id"])

    @contextmanager
    def other_engine(self) -> Iterator[None]:
        with self.api() as api:
            ours = api.info()["ID"].encode()
        target = str(self.link.readlink())
        relay = self.door / f"relay-{secrets.token_hex(3)}.sock"
        with _relay(relay, target, ours, bytes(reversed(ours))):
            self._point_to(relay)
            try:
                yield
            finally:
                self._point_to(Path(target))

    def _point_to(self, target: Path) -> None:
        fresh = self.door / "fresh"
        fresh.symlink_to(target)
        fresh.rename(self.link)

    def clean(self) -> None:
        """Remove by id what is ours and what was planted; nothing else on this engine is touched."""
        found = [(r.kind, r.id) for r in self.raw() if dict(r.labels).get(naming.LABEL_ROOT)] + self.planted
        with self.api() as api:
            for kind, remove in (
                ("container", lambda i: api.remove_container(i, force=True, v=True)),
                ("network", api.remove_network),
                ("volume", api.remove_volume),
            ):
                for object_id in {i for k, i in found if k == kind}:
                    try:
                        remove(object_id)
                    except NotFound:
                        continue
        for backend in self.backends:
            assert isinstance(backend, DockerBackend)
            if backend._engine is not None:
                backend._engine.close()
        self.runtime.journal.verify()
        self.runtime.journal.close()
        shutil.rmtree(self.door)


def _state(item: dict[str, Any]) -> str:
    return _STATES.get(item["State"], "exited")


def _raw(object_id: str, kind: str, name: str, item: dict[str, Any], state: str) -> Raw:
    return Raw(object_id, kind, name, tuple(sorted((item.get("Labels") or {}).items())), state)


@contextmanager
def _relay(path: Path, target: str, ours: bytes, other: bytes) -> Iterator[None]:
    """Pass everything on to the engine, and let it call itself by another id."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
                engine.connect(target)
                back = threading.Thread(target=_pump, args=(engine, self.request, ours, other))
                back.start()
                _pump(self.request, engine, b"", b"")
                back.join()

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket, old: bytes, new: bytes) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data.replace(old, new) if old else data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
