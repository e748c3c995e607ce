"""What can be read of a private key without opening it: whether it wants a passphrase, and its fingerprint. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from bottle_fsm.errors import ProvisionError

_MAGIC: Final = b"openssh-key-v1\0"
_OPENSSH: Final = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END OPENSSH PRIVATE KEY-----"
)
_LEGACY: Final = re.compile(rb"-----BEGIN (?:RSA |EC |DSA |ENCRYPTED )?PRIVATE KEY-----")
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a private key file says openly.

    Attributes:
        encrypted: it wants a passphrase.
        fingerprint: `SHA256:…` as ssh writes it; empty when the format does not say (PEM).
    """

    encrypted: bool
    fingerprint: str


def key_facts(content: bytes, *, place: str) -> KeyFacts:
    """Read what a private key file says openly.

    Raises:
        ProvisionError: this is no private key that OpenSSH reads.
    """
    match = _OPENSSH.search(content)
    if match is not None:
        return _openssh(match[1], place)
    if _LEGACY.search(content):
        return KeyFacts(any(mark in content for mark in _ENCRYPTED), "")
    raise ProvisionError("holds no private key", place=place, hint="Name the private key, not the `.pub` file")


def fingerprint(public_blob: bytes) -> str:
    """Return the fingerprint of a public key's blob as ssh writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_blob).digest()).decode().rstrip("=")


def _openssh(text: bytes, place: str) -> KeyFacts:
    try:
        body = base64.b64decode(b"".join(text.split()), validate=True)
        magic, rest = body[: len(_MAGIC)], body[len(_MAGIC) :]
        cipher, rest = _string(rest)
        _, rest = _string(rest)
        _, rest = _string(rest)
        blob, _ = _string(rest[4:])
    except ValueError:  # base64's own error is one, too
        magic, cipher, blob = b"", b"", b""
    if magic != _MAGIC or not blob:
        raise ProvisionError("holds a damaged private key", place=place)
    return KeyFacts(cipher != b"none", fingerprint(blob))


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Cut one length-prefixed string off the front."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("cut short")
    return data[4 : 4 + size], data[4 + size :]
