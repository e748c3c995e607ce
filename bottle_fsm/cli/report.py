"""Report: what `--json` prints: an object that names the schema, one an event, a last one with the exit code."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bottle_fsm import __version__
from bottle_fsm.cli.app import SCHEMA, App
from bottle_fsm.cli.boundary import exit_code_of
from bottle_fsm.cli.streams import forget
from bottle_fsm.errors import BottleError, ManifestError
from bottle_fsm.model import Event, Json


class Report:
    """The JSON lines of one process; writes nothing unless `enabled`.

    A reader that leaves early does not stop a launch: what it does not take is dropped.
    """

    def __init__(self, command: str, *, enabled: bool) -> None:
        self._enabled = enabled
        self._ended = False
        self.enabled = enabled
        self.write({"schema": SCHEMA, "type": "header", "command": command, "version": __version__})

    def write(self, value: Mapping[str, Any]) -> None:
        """Write one object on a line of its own, in plain ASCII."""
        if not self._enabled:
            return
        try:
            sys.stdout.write(json.dumps(value) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._enabled = False
            forget(sys.stdout)

    def event(self, event: Event) -> None:
        """Write a committed event."""
        self.write({"type": "event", **event.body(), "hash": event.hash})

    def end(self, outcome: str, exit_code: int, **more: Any) -> None:
        """Write the last object, once."""
        if self._ended:
            return
        self._ended = True
        self.write({"type": "outcome", "outcome": outcome, "exit_code": exit_code, **more})


@contextmanager
def reporting(app: App, command: str, *, enabled: bool) -> Iterator[Report]:
    """Give the body a report, and see that it has a last object even if the body fails."""
    report = Report(command, enabled=enabled)
    try:
        yield report
    except BottleError as error:
        report.end(error.code, exit_code_of(error), error=error_json(error))
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            report.end("interrupted", 128 + (app.signum or 2))
        raise
    except Exception as error:
        report.end("internal", 1, error={"code": "internal", "problem": f"{type(error).__name__}: {error}"})
        raise


def error_json(error: BottleError) -> Json:
    """Return an error as a JSON object; a manifest's error holds all its problems."""
    value: Json = {"code": error.code, "problem": error.problem, "place": error.place, "hint": error.hint}
    if isinstance(error, ManifestError):
        value["problems"] = [{"place": p.place, "problem": p.problem, "hint": p.hint} for p in error.problems]
    return value
