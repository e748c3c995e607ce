"""The line to one engine: docker-py clients over its socket, TCP with TLS, or an ssh door, made when they are needed.

Not its duty: which engine, and what is said. docker-py is imported where it is used only: it takes 160 ms.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bottle_fsm.backend.docker.endpoint import Address
from bottle_fsm.backend.docker.sshdoor import SshDoor

if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig


class Line:
    """Connections to one engine. Safe to share between threads; usable again after `close`.

    Attributes:
        address: how the engine is reached.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._clients: dict[tuple[str, float], APIClient] = {}
        self._door: SshDoor | None = None
        self._lock = threading.Lock()

    def knock(self, timeout: float) -> None:
        """Connect to a Unix socket and leave: docker-py does not close a socket that it could not connect.

        Raises:
            OSError: nobody answers there.
        """
        if self.address.url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
                knocking.settimeout(timeout)
                knocking.connect(self.address.url.removeprefix("unix://"))

    def client(self, api_version: str, timeout: float) -> APIClient:
        """Return the client with this timeout: docker-py keeps it per client, so threads must not change it."""
        with self._lock:
            key = (api_version, timeout)
            if key not in self._clients:
                self._clients[key] = self._make(api_version, timeout)
            return self._clients[key]

    def last_words(self) -> str:
        """Return what ssh said last, empty without ssh."""
        with self._lock:
            return self._door.last_words() if self._door else ""

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
            door, self._door = self._door, None
        for client in clients:
            client.close()
        if door:
            door.close()

    def _make(self, api_version: str, timeout: float) -> APIClient:
        """Make a docker-py client; it connects at its first call."""
        from docker import APIClient  # noqa: PLC0415 - start-up budget

        url = self.address.url
        if url.startswith("ssh://"):
            self._door = self._door or SshDoor(url)
            url = self._door.url
        return APIClient(
            base_url=url,
            version=api_version,
            timeout=timeout,  # type: ignore[arg-type]  # requests takes fractions of a second
            tls=_tls(self.address) if self.address.tls_dir else False,
        )


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
