"""Reads a small regular file whole, without ever waiting: a pipe or device in its place is refused.

Not its duty: what is in the file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


class UnreadableError(Exception):
    """A file cannot be read; `reason` completes the sentence "the file …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_small_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises:
        UnreadableError: it does not exist, is no regular file, is larger, or the system refuses it.
    """
    try:
        # A pipe would block the opening itself until someone writes to it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UnreadableError("does not exist") from error
    except (OSError, ValueError) as error:
        raise UnreadableError(f"cannot be read ({_cause(error)})") from error
    try:
        return _read(handle, limit)
    except OSError as error:
        raise UnreadableError(f"cannot be read ({_cause(error)})") from error
    finally:
        os.close(handle)


def _read(handle: int, limit: int) -> bytes:
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode):
        raise UnreadableError("is a directory")
    if not stat.S_ISREG(mode):
        raise UnreadableError("is not a regular file")
    with open(handle, "rb", closefd=False) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableError(f"is larger than {f'{limit // _MIB} MiB' if limit >= _MIB else f'{limit // _KIB} KiB'}")
    return data


def _cause(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
