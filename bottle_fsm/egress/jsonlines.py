"""One JSON object per line: the stream of decisions of a sidecar.

Every value is escaped to plain ASCII, so that no host, path or user agent can break a line or colour a terminal.
Not its duty: knowing what may be written; callers never pass header values or bodies.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from bottle_fsm.egress.linequeue import LineQueue

MAX_TEXT: Final = 512
MAX_ITEMS: Final = 16
DECISION: Final[dict[str, Any]] = {
    "host": "",
    "port": 0,
    "method": "",
    "path": "",
    "rule": "",
    "action": "",
    "reason": "",
    "by": "interceptor",
    "findings": [],
    "status": 0,
    "bytes": 0,
    "ms": 0.0,
}
"""The fields that every line about a request, connection or tunnel has, and what stands there when nobody says."""
DECIDED: Final = frozenset({"decision", "tunnel_open", "tunnel_close", "blocked", "error"})
"""The events that are such lines."""
DROPPED: Final = "dropped"
"""The event that stands where lines are missing, with their number as `lines`."""
_MAX_ESCAPED: Final = 2048
_SURELY: Final = _MAX_ESCAPED // 12
"""Characters whose escapes fit in any case: one outside the basic plane takes twelve."""


class JsonLines:
    """Writes events with a time and fixed fields of its own to a stream or descriptor, each line at once."""

    def __init__(self, *, stream: TextIO | None = None, descriptor: int = 1, **fixed: str) -> None:
        """Write to a stream, or without one to a descriptor that may be slow or full: nobody ever waits for it."""
        self._stream = stream
        self._fixed = fixed
        self._queue = LineQueue(descriptor, lost=self._lost) if stream is None else None

    def write(self, event: str, **fields: Any) -> None:
        """Write one event. Long texts are cut; a stream that is gone loses lines but never stops the sidecar."""
        line = self._line(event, fields)
        if self._queue is not None:
            self._queue.put(line)
        elif self._stream is not None:
            _write_now(self._stream, line)

    def close(self, seconds: float = 2.0) -> None:
        """Give what still waits some time to be written."""
        if self._queue is not None:
            self._queue.close(seconds)

    def _line(self, event: str, fields: dict[str, Any]) -> bytes:
        told = {**DECISION, **fields} if event in DECIDED else fields
        value = {"time": _now(), "event": event, **self._fixed, **{name: cut(item) for name, item in told.items()}}
        return json.dumps(value, ensure_ascii=True).encode("ascii") + b"\n"

    def _lost(self, count: int) -> bytes:
        return self._line(DROPPED, {"lines": count})


def _write_now(stream: TextIO, line: bytes) -> None:
    try:
        stream.write(line.decode("ascii"))
        stream.flush()
    except (OSError, ValueError):
        return


def cut(value: Any) -> Any:
    """Cut a text so that its line stays far below the size at which an engine cuts lines in pieces."""
    if isinstance(value, list | tuple):
        return [cut(item) for item in value[:MAX_ITEMS]]
    if not isinstance(value, str) or len(value) <= _SURELY:
        return value
    text = value[:MAX_TEXT]
    return text if len(json.dumps(text)) <= _MAX_ESCAPED else text[:_SURELY]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
