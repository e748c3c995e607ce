"""Asks a sidecar for its health: `python -m bottle_fsm.egress.healthcheck URL`; `unix:PATH` names a Unix socket.

Prints the answer, and exits 0 only when its status is `ok` or `healthy`. It serves the container's health check and the
launcher's exec; the answer is printed in either case, so that the launcher can read the CA's fingerprint early. With
`PATIENCE` seconds in its environment it asks again until then: a process for every question costs more than the start
that is waited for.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from typing import Final
from urllib.parse import urlsplit

PATIENCE: Final = "BOTTLE_HEALTH_PATIENCE"
TIMEOUT: Final = 4.0
_POLL: Final = 0.05
MAX_ANSWER: Final = 64 * 1024


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def ask(url: str) -> dict[str, object]:
    """Return the health answer of a sidecar.

    Raises:
        OSError: it does not answer.
        ValueError: the URL or the answer makes no sense.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection: http.client.HTTPConnection = _UnixConnection(parts.path)
    elif parts.scheme == "http" and parts.hostname:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
    else:
        raise ValueError("a health URL is http://ADDRESS:PORT/health or unix:PATH")
    try:
        connection.request("GET", "/health" if parts.scheme == "unix" else parts.path)
        response = connection.getresponse()
        value = json.loads(response.read(MAX_ANSWER))
    except http.client.HTTPException as error:
        raise ValueError(type(error).__name__) from None
    finally:
        connection.close()
    if response.status != 200 or not isinstance(value, dict):  # noqa: PLR2004 - the one status of a health answer
        raise ValueError(f"answered {response.status}")
    return value


def main(argv: list[str] | None = None) -> int:
    """Print the health answer; return 0 when the sidecar is well."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: healthcheck URL\n")
        return 1
    deadline = time.monotonic() + float(os.environ.get(PATIENCE) or 0)
    while True:
        try:
            value = ask(arguments[0])
            answer = json.dumps(value)
        except (OSError, ValueError) as error:
            value, answer = {}, f"healthcheck: {error}"
        if value.get("status") in {"ok", "healthy"} or time.monotonic() >= deadline:
            break
        time.sleep(_POLL)
    (sys.stdout if value else sys.stderr).write(answer + "\n")
    return 0 if value.get("status") in {"ok", "healthy"} else 1


if __name__ == "__main__":
    sys.exit(main())
