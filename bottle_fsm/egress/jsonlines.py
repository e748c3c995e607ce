"""One JSON object per line on standard output: the stream of decisions of a sidecar.

Every value is escaped to plain ASCII, so that no host, path or user agent can break a line or colour a terminal.
Not its duty: knowing what may be written; callers never pass header values or bodies.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

MAX_TEXT: Final = 512


class JsonLines:
    """Writes events with a time and fixed fields of its own to a stream, each line at once."""

    def __init__(self, *, stream: TextIO | None = None, **fixed: str) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._fixed = fixed

    def write(self, event: str, **fields: Any) -> None:
        """Write one event. Long texts are cut; a stream that is gone loses lines but never stops the sidecar."""
        cut = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        line = json.dumps({"time": _now(), "event": event, **self._fixed, **cut}, ensure_ascii=True)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
