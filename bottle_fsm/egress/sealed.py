"""Sealed files: a sidecar starts only when every file that it was given is there, whole and unchanged.

A file copy that was cut off can leave a policy that still reads, but is weaker. So the manifest of digests is written
last, and both sidecars read their configuration through `read_sealed` only. Not its duty: secrets on tmpfs, which
arrive after the start.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Final

MANIFEST_NAME: Final = "MANIFEST.json"
MAX_FILE: Final = 16 * 1024 * 1024


class SealError(Exception):
    """A sealed file is missing, cut off, changed or malformed; the text says which, never what it holds."""


def manifest_bytes(files: dict[str, bytes]) -> bytes:
    """Return the bytes of the manifest for these files: path → SHA-256. It has to be written last."""
    return json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())}).encode()


class SealedFiles:
    """The files listed in the manifest beside a configuration file, each verified once, when it is opened."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    @classmethod
    def beside(cls, config: Path) -> SealedFiles:
        """Read and verify every file listed in the manifest that stands beside the configuration file.

        Raises:
            SealError: there is no manifest, or a listed file is missing or differs.
        """
        manifest = config.absolute().parent / MANIFEST_NAME
        listed = parse_object(_read(manifest), str(manifest))
        if not listed:
            raise SealError(f"{manifest}: lists no file")
        return cls({path: _read_verified(path, digest) for path, digest in listed.items()})

    def read(self, path: str) -> bytes:
        """Return the verified bytes of a file.

        Raises:
            SealError: the manifest does not list it.
        """
        try:
            return self._files[path]
        except KeyError:
            raise SealError(f"{path}: not listed in {MANIFEST_NAME}") from None

    def read_object(self, path: str) -> dict[str, Any]:
        """Return a verified file as a JSON object.

        Raises:
            SealError: it is not listed, or is not a JSON object.
        """
        return parse_object(self.read(path), path)


def parse_object(data: bytes, place: str) -> dict[str, Any]:
    """Return bytes as a JSON object.

    Raises:
        SealError: the bytes are something else.
    """
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SealError(f"{place}: not a JSON object")
    return value


def _read_verified(path: str, digest: object) -> bytes:
    data = _read(Path(path))
    if not isinstance(digest, str) or not hmac.compare_digest(hashlib.sha256(data).hexdigest(), digest):
        raise SealError(f"{path}: differs from its digest in {MANIFEST_NAME}")
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SealError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise SealError(f"{path}: larger than {MAX_FILE} bytes")
    return data
