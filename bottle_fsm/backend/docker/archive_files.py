"""Files into and out of a container's writable layer by the engine's archive calls.

Only for root-owned places, and only before the start or to read exact paths: afterwards the agent could plant links.
Not its duty: anything on tmpfs; the archive calls report success there and nobody sees the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import Final

from bottle_fsm.archive import Member, pack_members
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import ObjectGoneError
from bottle_fsm.errors import DriftError, TransientError

MAX_READ: Final = 32 << 20


def put_members(engine: Engine, container_id: str, members: Mapping[str, Member], *, name: str) -> None:
    """Unpack files and directories at the container's root; absolute paths are the keys."""
    content = pack_members({path.lstrip("/"): member for path, member in members.items()})
    with engine.guarded(f"copy into {name}") as api:
        if not api.put_archive(container_id, "/", content):
            raise TransientError("the engine did not take the files", place=name)


def read_members(engine: Engine, container_id: str, path: str, *, name: str) -> dict[str, bytes]:
    """Return the regular files at or below an exact path, by absolute path. Links are not followed."""
    with engine.guarded(f"read {path} of {name}") as api:
        stream, _ = api.get_archive(container_id, path)
        buffer, size = io.BytesIO(), 0
        try:
            for chunk in stream:
                size += len(chunk)
                if size <= MAX_READ:  # drained in any case: a stream left half read blocks the image's removal
                    buffer.write(chunk)
        finally:
            close = getattr(stream, "close", None)
            if close:
                close()
    if size > MAX_READ:
        raise DriftError(f"{path} is larger than it can be", place=name)
    buffer.seek(0)
    parent = path.rpartition("/")[0]
    with tarfile.open(fileobj=buffer) as tar:
        return {f"{parent}/{m.name}": _content(tar, m) for m in tar if m.isreg()}


def check_files(engine: Engine, container_id: str, wanted: Mapping[str, bytes], *, name: str) -> None:
    """Read files back and compare digests: a copy that was cut off can leave a file that reads well and is weaker.

    Raises:
        DriftError: one is missing or differs.
    """
    folders = sorted({path.rpartition("/")[0] for path in wanted})
    found: dict[str, bytes] = {}
    for folder in folders:
        with contextlib.suppress(ObjectGoneError):  # the whole folder is missing: so is each file of it
            found |= read_members(engine, container_id, folder, name=name)
    for path, content in wanted.items():
        if hashlib.sha256(found.get(path, b"")).digest() != hashlib.sha256(content).digest():
            raise DriftError(f"{path} inside is not what was copied", place=name)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()
