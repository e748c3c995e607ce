"""Small real servers on loopback for the tests of images: an image registry, and a package index for npm and PyPI."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def tarball(files: dict[str, bytes], *, compress: bool = True) -> bytes:
    """Return a tar archive of regular files, all executable, gzipped or not."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(target.getvalue(), mtime=0) if compress else target.getvalue()


def integrity(content: bytes) -> str:
    """Return npm's integrity text."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def wheel(name: str, version: str) -> bytes:
    """Return a wheel of one module."""
    target = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return target.getvalue()


class TinyServer:
    """Serves what `pages` holds by path; keeps the requests with their headers in `asked`."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append((self.path, dict(self.headers.items())))
                kind, body = server.pages.get(self.path, ("", b""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                if kind == MANIFEST:
                    self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the base class calls it so

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[TinyServer]:
        """Serve for the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def add_image(self, name: str, tag: str, files: dict[str, bytes], *, arch: str) -> str:
        """Serve an image of one layer; return its digest. Engines take a registry on loopback without TLS."""
        layer = tarball(files)
        plain = gzip.decompress(layer)
        config = json.dumps(
            {
                "architecture": arch,
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
            }
        ).encode()
        blobs = [self._add_blob(name, content) for content in (config, layer)]
        types = ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip")
        entries = [
            {"mediaType": kind, "size": len(content), "digest": digest}
            for kind, content, digest in zip(types, (config, layer), blobs, strict=True)
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries[0], "layers": [entries[1]]}
        body = json.dumps(manifest).encode()
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        self.pages["/v2/"] = ("application/json", b"{}")
        for reference in (tag, digest):
            self.pages[f"/v2/{name}/manifests/{reference}"] = (MANIFEST, body)
        return digest

    def _add_blob(self, name: str, content: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.pages[f"/v2/{name}/blobs/{digest}"] = ("application/octet-stream", content)
        return digest
