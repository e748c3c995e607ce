"""A sidecar's own health answer, asked over a Unix socket from outside: no process has to be started for a question.

The directory that the socket stands in is the sidecar's, so nothing but a socket is connected to, and the answer is
bounded text. Not its duty: what a healthy answer is.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Final

_SECONDS: Final = 4.0
_ANSWER_BYTES: Final = 64 * 1024
_QUESTION: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ask(path: Path) -> dict[str, str]:
    """Return the answer; empty when there is none, or none that makes sense."""
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            return {}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(f"/proc/self/fd/{handle}")
            connection.sendall(_QUESTION)
            data = b""
            while len(data) < _ANSWER_BYTES and (part := connection.recv(4096)):
                data += part
        head, _, body = data.partition(b"\r\n\r\n")
        value = json.loads(body) if head.startswith(b"HTTP/1.1 200 ") else {}
    except (OSError, ValueError):
        return {}
    finally:
        os.close(handle)
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}
