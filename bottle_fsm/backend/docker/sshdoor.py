"""An engine behind ssh, as a socket of this host: each connection to it becomes `ssh HOST docker system dial-stdio`.

The user's own ssh client is used, with its keys, agent, known hosts and configuration. docker-py's ssh needs another
library, has no timeouts and cannot carry an exec's streams.
Not its duty: speaking with the engine.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from bottle_fsm.errors import EngineUnavailableError

_PATIENCE = 5.0
_FORM = "Write ssh://user@host:port"
_HOST = re.compile(r"[A-Za-z0-9_\[:][A-Za-z0-9_.:%\]-]*")  # never an option of ssh
_PATH = re.compile(r"[A-Za-z0-9_./-]*")  # it becomes part of a command line over there


def ssh_command(url: str) -> list[str]:
    """Return the command that connects its standard input and output with the engine of an `ssh://` address.

    Raises:
        EngineUnavailableError: the address is not one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise EngineUnavailableError(f"{url} is no ssh address", place="connect", hint=_FORM) from None
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(parts.path) or parts.password or parts.query:
        raise EngineUnavailableError(f"{url} is no ssh address", place="connect", hint=_FORM)
    user = ["-l", parts.username] if parts.username else []
    where = f" --host unix://{parts.path}" if parts.path.strip("/") else ""
    to_port = ["-p", str(port)] if port else []
    return ["ssh", "-T", "-o", "ConnectTimeout=15", *user, *to_port, "--", host, f"docker{where} system dial-stdio"]


class SshDoor:
    """A Unix socket in a directory that only this user may enter; open until `close`.

    Attributes:
        url: the socket's address, for docker-py.
    """

    def __init__(self, url: str) -> None:
        self._command = ssh_command(url)
        self._directory = tempfile.TemporaryDirectory(prefix="bottle-ssh-")
        self._said = Path(self._directory.name) / "said"
        path = f"{self._directory.name}/engine.sock"
        self.url = f"unix://{path}"
        self._children: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, name=f"ssh door {url}", daemon=True)
        self._thread.start()

    def last_words(self) -> str:
        """Return the last line that ssh wrote on standard error, empty when it was silent."""
        with contextlib.suppress(OSError):
            return (self._said.read_text(errors="replace").strip().splitlines() or [""])[-1].strip()
        return ""

    def close(self) -> None:
        """End the connections and take the socket away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._directory.cleanup()

    def _accept(self) -> None:
        """Give each connection to an ssh of its own, which has it as input and output: nothing is copied here.

        A session of its own: Ctrl-C is for the launcher, which finishes its step through this connection.
        """
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._children = [child for child in self._children if child.poll() is None]
            with connection, self._said.open("ab") as said:
                try:
                    end = connection.fileno()
                    child = subprocess.Popen(self._command, stdin=end, stdout=end, stderr=said, start_new_session=True)
                except OSError as error:
                    said.write(f"ssh cannot be started: {error.strerror}\n".encode())
                else:
                    self._children.append(child)
