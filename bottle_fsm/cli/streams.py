"""Standard output and error, for programs whose reader may leave and whose terminal may not know every character."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def write_error(text: str) -> None:
    """Write lines to standard error; one that is gone (a closed terminal) is no reason to stop."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        forget(sys.stderr)


def forget(stream: TextIO) -> None:
    """Let a stream go nowhere from now on: its reader left, and what is still buffered must not fail later."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def tolerate_encodings() -> None:
    """Let a terminal that cannot show a character get its escape instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
