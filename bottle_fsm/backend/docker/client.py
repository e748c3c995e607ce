"""The door to a Docker engine: `connect` gives an `Engine`, whose `guarded` lends docker-py's low-level client.

Not its duty: what is asked of the engine, and what its failures mean for a launch. docker-py is imported where it is
used only: it takes 160 ms.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottle_fsm.backend.docker.endpoint import Address, Endpoint, resolve
from bottle_fsm.backend.docker.errors import translated
from bottle_fsm.errors import DecisionNeededError, EngineUnavailableError, TransientError

if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig

MIN_API = (1, 41)
MIN_ENGINE = "20.10"
CALL_TIMEOUT = 30.0


class Engine:
    """One engine that answered. Safe to share between threads.

    Attributes:
        address: how it is reached.
        version: its version; api_version: the API version in use; arch: `amd64`, `arm64`, … (Go's names).
    """

    def __init__(self, address: Address, *, version: str, api_version: str, arch: str) -> None:
        self.address = address
        self.version = version
        self.api_version = api_version
        self.arch = arch
        self._clients: dict[float, APIClient] = {}
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None

    @property
    def url(self) -> str:
        """Return the engine's address as text."""
        return self.address.url

    @contextmanager
    def guarded(self, step: str, *, timeout: float = CALL_TIMEOUT) -> Iterator[APIClient]:
        """Lend the low-level client for a block out of which only our own errors come.

        Args:
            step: what is done, as it should stand in an error's place, such as `create network <name>`.
            timeout: seconds without a byte from the engine after which a call is given up.

        Raises:
            BackendError: or a subclass, see `errors.translated`.
        """
        with translated(step, url=self.url):
            _knock(self.url, timeout)
            yield self._client(timeout)

    def endpoint(self) -> Endpoint:
        """Return what tells this engine from others; asked of the engine once."""
        if self._endpoint is None:
            with self.guarded("identify the engine") as api:
                first, second = api.info(), api.info()
            stable = first.get("ID", "") if first.get("ID") == second.get("ID") else ""
            self._endpoint = Endpoint(
                url=self.url,
                engine_id=stable or "",
                name=second.get("Name", ""),
                root_dir=second.get("DockerRootDir", ""),
                version=self.version,
                api_version=self.api_version,
                tls_dir=self.address.tls_dir,
                tls_verify=self.address.tls_verify,
            )
        return self._endpoint

    def close(self) -> None:
        """Close every connection. The engine may be used again afterwards."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _client(self, timeout: float) -> APIClient:
        """Return the client with this timeout: docker-py keeps it per client, so threads must not change it."""
        with self._lock:
            if timeout not in self._clients:
                self._clients[timeout] = _api_client(self.address, self.api_version, timeout)
            return self._clients[timeout]


def connect(environ: Mapping[str, str], *, endpoint: Endpoint | None = None, timeout: float = CALL_TIMEOUT) -> Engine:
    """Connect to the engine that `endpoint` recorded, else to the one that the user's environment names.

    Raises:
        EngineUnavailableError: no engine answers, it may not be used, or it is too old.
        DecisionNeededError: another engine than the recorded one answers at the recorded address.
    """
    address = endpoint.address if endpoint else resolve(environ)
    answer = _ask_version(address, timeout)
    api_version = str(answer["ApiVersion"])
    if tuple(int(part) for part in api_version.split(".")) < MIN_API:
        raise EngineUnavailableError(
            f"engine {answer.get('Version')} (API {api_version}) at {address.url} is too old",
            place="connect",
            hint=f"Engine {MIN_ENGINE} (API {'.'.join(map(str, MIN_API))}) or newer is needed",
        )
    engine = Engine(
        address, version=str(answer.get("Version", "")), api_version=api_version, arch=str(answer.get("Arch", ""))
    )
    if endpoint and not endpoint.same_as(engine.endpoint()):
        engine.close()
        raise DecisionNeededError(
            f"another engine answers at {endpoint.url}: {engine.endpoint().name} {engine.endpoint().root_dir}, "
            f"recorded was {endpoint.name} {endpoint.root_dir}",
            place="connect",
            hint="Bring the recorded engine back; what was launched there is not visible from here",
        )
    return engine


def _ask_version(address: Address, timeout: float) -> dict[str, Any]:
    """Ask an engine for its versions; what does not answer like an engine is not available."""
    answer: Any
    try:
        with translated("connect", url=address.url):
            _knock(address.url, timeout)
            client = _api_client(address, ".".join(map(str, MIN_API)), timeout)
            try:
                answer = client.version(api_version=False)
            finally:
                client.close()
    except TransientError as error:
        raise EngineUnavailableError(
            error.problem, place="connect", hint="Is it a Docker engine? Check DOCKER_HOST, or the engine's log"
        ) from error
    found: dict[str, Any] = answer if isinstance(answer, dict) else {}
    if not re.fullmatch(r"\d+\.\d+", str(found.get("ApiVersion"))):
        raise EngineUnavailableError(
            f"what answers at {address.url} is not a Docker engine", place="connect", hint="Check DOCKER_HOST"
        )
    return found


def _knock(url: str, timeout: float) -> None:
    """Connect to a Unix socket and leave: docker-py does not close a socket that it could not connect."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(timeout)
            knocking.connect(url.removeprefix("unix://"))


def _api_client(address: Address, api_version: str, timeout: float) -> APIClient:
    """Make a docker-py client; it connects at its first call."""
    from docker import APIClient  # noqa: PLC0415 - start-up budget

    if address.url.startswith("ssh://") and not _has_paramiko():
        raise EngineUnavailableError(
            f"{address.url} needs paramiko, which is not installed", place="connect", hint="pip install 'docker[ssh]'"
        )
    return APIClient(
        base_url=address.url,
        version=api_version,
        timeout=timeout,  # type: ignore[arg-type]  # requests takes fractions of a second
        tls=_tls(address) if address.tls_dir else False,
        use_ssh_client=address.url.startswith("ssh://"),
    )


def _has_paramiko() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - needed for ssh only

    return find_spec("paramiko") is not None


def _tls(address: Address) -> TLSConfig:
    """Return docker-py's TLS settings for a directory of certificates; a missing client pair is left out."""
    from docker.tls import TLSConfig  # noqa: PLC0415 - start-up budget

    directory = Path(address.tls_dir)
    pair = (str(directory / "cert.pem"), str(directory / "key.pem"))
    authority = directory / "ca.pem"
    return TLSConfig(
        client_cert=pair if all(Path(part).is_file() for part in pair) else None,
        ca_cert=str(authority) if authority.is_file() else None,
        verify=address.tls_verify,
    )
