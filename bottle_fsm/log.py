"""The log: a line for each committed event, written after the commit. The only importer of structlog.

The journal is the truth; a log line repeats a part of it for people and log collectors. Not its duty: evidence, which
can be large; `bottle-fsm audit` shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import structlog

from bottle_fsm.errors import UsageError
from bottle_fsm.model import Event, Json
from bottle_fsm.safetext import safe
from bottle_fsm.store import kinds
from bottle_fsm.store.findings import CA, ca_fingerprint

Style = Literal["json", "console"]
_ERRORS: Final = frozenset({kinds.FAILED, kinds.UNDO_FAILED})
_QUIET: Final = frozenset({kinds.LOCK, kinds.INTENT, kinds.STEP_INTENT, kinds.STEP_SKIPPED, kinds.UNDO_INTENT})


class EventLog:
    """Writes events to one stream."""

    def __init__(self, stream: TextIO, *, style: Style, colors: bool = False) -> None:
        renderer: Any = (
            structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True)
            if style == "json"
            else structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=12)
        )
        self._stream = stream
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[structlog.stdlib.add_log_level, _harmless, renderer],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
            cache_logger_on_first_use=False,
        )

    def write(self, event: Event) -> None:
        """Write an event's line."""
        failed = event.kind in _ERRORS or (event.kind == kinds.OBSERVED and event.error)
        level = "error" if failed else "debug" if event.kind in _QUIET else "info"
        method: Callable[..., None] = getattr(self._log, level)
        method(event.kind, **fields_of(event))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def open_log_file(path: Path) -> EventLog:
    """Open a log file for appending; made with mode 0600.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", place=f"--log-file {path}") from error
    return EventLog(os.fdopen(descriptor, "a", encoding="utf-8", buffering=1), style="json")


def fields_of(event: Event) -> Json:
    """Return what a log line says of an event; empty fields are left out."""
    found: Json = {
        "sequence": event.sequence,
        "time": event.time,
        "bottle": event.bottle,
        "launch": event.launch,
        "trigger": event.trigger,
        "from": event.source,
        "to": event.dest,
        "step": event.evidence.get("step", ""),
        "attempt": event.attempt,
        "cause": event.cause,
        "error": event.error,
        "duration": event.duration,
        CA: ca_fingerprint(event),
        "resources": [f"{r['kind']} {r['name']} {r['state']}" for r in event.resources],
        "run": event.run,
        "hash": event.hash,
    }
    return {name: value for name, value in found.items() if value not in ("", 0, 0.0, [])}


def _harmless(_logger: Any, _name: str, fields: Any) -> Any:
    """Spell out what could break a line or colour a terminal, whichever renderer comes after."""
    return {name: safe(value) if isinstance(value, str) else value for name, value in fields.items()}
