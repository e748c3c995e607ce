"""The bottle's certificate authority: made once in the interceptor's writable layer, its key never leaves it."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
from pathlib import Path
from typing import Final

import certifi
from mitmproxy.certs import CertStore
from mitmproxy.options import CONF_BASENAME

KEY_SIZE: Final = 2048
_MAX_NAME: Final = 64


def ensure_authority(confdir: Path, *, name: str) -> None:
    """Make the authority unless it is there. It appears whole or not at all; a restart finds the same one."""
    if (confdir / f"{CONF_BASENAME}-ca.pem").exists():
        return
    making = confdir.with_name(confdir.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(confdir, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    CertStore.create_store(making, CONF_BASENAME, KEY_SIZE, organization="bottle-fsm", cn=name[:_MAX_NAME])
    for extra in making.glob("*.p12"):
        extra.unlink()
    making.rename(confdir)


def publish_certificate(confdir: Path, target: Path) -> str:
    """Write the certificate alone to `target`, readable by everyone, and return the SHA-256 of its DER form."""
    pem = (confdir / f"{CONF_BASENAME}-ca-cert.pem").read_text("ascii")
    der = ssl.PEM_cert_to_DER_cert(pem)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, ssl.DER_cert_to_PEM_cert(der).encode("ascii"), mode=0o644)
    return hashlib.sha256(der).hexdigest()


def upstream_roots(confdir: Path, extra: bytes) -> Path:
    """Write the public roots and the bottle's extra ones into one bundle, and return its path."""
    bundle = confdir / "upstream-roots.pem"
    write_whole(bundle, Path(certifi.where()).read_bytes() + b"\n" + extra, mode=0o600)
    ssl.create_default_context(cafile=str(bundle))
    return bundle


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file aside and move it into place."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
    aside.replace(path)
