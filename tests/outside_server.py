"""Runs where tests call it outside: web servers with and without TLS, and in a container git over HTTPS and an sshd.

`outside_server.py [DIRECTORY]`: certificate and keys are there; without an `sshd_config` it is the web alone.
Everything that arrives is a JSON line on standard output, so that a test can count. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = Path(sys.argv[1] if len(sys.argv) > 1 else "/etc/outside")
"""Where the test put certificate, keys and the sshd's configuration before the start."""
REPOSITORIES = "/srv/git"
HTTPS_PORTS = (443, 8443)
HTTP_PORTS = (80,)
_writing = threading.Lock()


def note(**seen: Any) -> None:
    """Write down what arrived."""
    with _writing:
        print(json.dumps(seen), flush=True)  # noqa: T201 - the container's log is what tests read


class Handler(BaseHTTPRequestHandler):
    """Answers everything, and serves the repositories below /git/."""

    protocol_version = "HTTP/1.1"
    tls: ssl.SSLContext | None = None

    def setup(self) -> None:
        self.port = self.request.getsockname()[1]
        note(seen="connection", port=self.port, peer=self.client_address[0])
        if self.tls is not None:
            self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def serve(self) -> None:
        body = self._body()
        note(
            seen="request",
            port=self.port,
            method=self.command,
            host=self.headers.get("Host", ""),
            path=self.path,
            bytes=len(body),
            peer=self.client_address[0],
        )
        if self.path.startswith("/git/"):
            self._git(body)
        elif self.path.startswith("/redirect/"):
            self._answer(302, b"", {"Location": f"https://{self.path.removeprefix('/redirect/')}"})
        else:
            self._answer(200, f"hello from outside: {self.command} {len(body)}\n".encode(), {})

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = serve  # noqa: N815 - the base class calls them so

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": REPOSITORIES,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": self.client_address[0],
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(BytesParser().parsebytes(head).items())
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, content, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing but what `note` says."""


class Server(ThreadingHTTPServer):
    """Takes a client that breaks TLS as a matter of course."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        note(seen="broken", peer=str(client_address))


def serve(port: int, *, tls: ssl.SSLContext | None) -> None:
    handler = type("PortHandler", (Handler,), {"tls": tls})
    server = Server(("0.0.0.0", port), handler)
    threading.Thread(target=server.serve_forever).start()


def make_repository() -> None:
    """Make one repository with one commit."""
    environment = dict(os.environ) | {f"GIT_{who}_{what}": "outside@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip  # noqa: E501 - one table

    def git(*words: str) -> None:
        subprocess.run(["git", *words], env=environment, check=True, stdout=subprocess.DEVNULL)

    git("init", "-q", "-b", "main", "/tmp/project")
    Path("/tmp/project/README.md").write_text("from outside\n")
    git("-C", "/tmp/project", "add", ".")
    git("-C", "/tmp/project", "commit", "-q", "-m", "first")
    git("clone", "-q", "--bare", "/tmp/project", f"{REPOSITORIES}/project.git")
    subprocess.run(["chown", "-R", "git", REPOSITORIES], check=True)


def serve_ssh() -> None:
    """Start the sshd and wait until it greets."""
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(CONFIG / "sshd_config")])
    while True:
        try:
            with socket.create_connection(("127.0.0.1", 22), timeout=1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
        except OSError:
            continue


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CONFIG / "server.pem", CONFIG / "server.key")
    for port in HTTPS_PORTS:
        serve(port, tls=context)
    for port in HTTP_PORTS:
        serve(port, tls=None)
    if (CONFIG / "sshd_config").exists():
        make_repository()
        serve_ssh()
    note(seen="ready")


if __name__ == "__main__":
    main()
