"""Ending: how it ended for each bottle, and how to go on, for people and for programs."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Final

from bottle_fsm.cli.app import App
from bottle_fsm.cli.boundary import describe
from bottle_fsm.cli.report import Report, error_json
from bottle_fsm.cli.streams import write_error
from bottle_fsm.errors import BottleError, InterruptedLaunchError
from bottle_fsm.model import Json
from bottle_fsm.runner.many import Result, exit_code_of
from bottle_fsm.runner.verbs import Outcome
from bottle_fsm.safetext import safe
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.record import READY, TORN_DOWN, BottleRecord

_WORDS: Final = {
    "launched": "is ready",
    "resumed": "is ready, resumed",
    "repaired": "is ready, repaired",
    "revised": "is ready, as the manifest says now",
    "unchanged": "unchanged: nothing to do",
    "torn_down": "is torn down: nothing of it is left",
    "nothing": "is torn down already: nothing to do",
    "proved": "passed its self-test: no row failed",
    "untested": "has nothing that could be tested",
}
_UP: Final = frozenset({"launched", "resumed", "repaired", "revised", "unchanged"})


class Ending:
    """Tells the results of one process."""

    def __init__(self, app: App, journal: Journal, report: Report) -> None:
        self._app = app
        self._journal = journal
        self._report = report

    def tell(self, results: Mapping[str, Result], code: int) -> None:
        """Tell every result to people, and all together to programs."""
        for bottle, result in results.items():
            record = self._journal.record(bottle) or BottleRecord(bottle)
            for line in self._lines(bottle, result, record):
                write_error(line)
        worst = next((r for r in results.values() if isinstance(r, BottleError) and exit_code_of(r) == code), None)
        rows = [_row(b, r, self._journal.record(b) or BottleRecord(b)) for b, r in results.items()]
        self._report.end(worst.code if worst else "ok", code, bottles=rows)

    def _lines(self, bottle: str, result: Result, record: BottleRecord) -> list[str]:
        if isinstance(result, BottleError):
            return self._of_error(result, record)
        if self._report.enabled:
            return []
        name = safe(bottle)
        head = f"{name}: {_WORDS[result.action]}"
        return [head, *self._how_to_go_on(bottle)] if result.action in _UP else [head]

    def _of_error(self, error: BottleError, record: BottleRecord) -> list[str]:
        if self._app.debug:
            write_error("".join(traceback.format_exception(error)).rstrip())
        lines = describe(error).split("\n")
        if isinstance(error, InterruptedLaunchError):
            lines.append(f"    {self._left(record)}")
        return lines

    def _left(self, record: BottleRecord) -> str:
        """Say what an interrupted launch left."""
        if not record.launch:
            return "Nothing was begun."
        if record.state == TORN_DOWN:
            return "Everything of this launch was taken away again."
        if record.outcome == READY:
            return "It was left as it is: ready."
        resume, destroy = self._app.command("resume", record.bottle), self._app.command("destroy", record.bottle)
        return f"It was kept after {safe(record.state)}. `{resume}` goes on, `{destroy}` takes it away."

    def _how_to_go_on(self, bottle: str) -> list[str]:
        command = self._app.command
        return [
            f"    enter:    {command('attach', bottle)}",
            f"    look:     {command('status', bottle)}",
            f"              {command('logs', bottle, '--egress')}",
            f"              {command('audit', bottle)}",
            f"    destroy:  {command('destroy', bottle)}",
        ]


def _row(bottle: str, result: Result, record: BottleRecord) -> Json:
    """Return one bottle's result as `--json` carries it."""
    row: Json = {
        "bottle": bottle,
        "result": result.action if isinstance(result, Outcome) else "failed",
        "state": record.state,
        "outcome": record.outcome,
        "launch": record.launch,
        "backend": record.backend,
        "exit_code": exit_code_of(result),
    }
    if isinstance(result, BottleError):
        row["left"] = "nothing" if record.state in {"", TORN_DOWN} else "leftovers" if record.down else "kept"
        row["error"] = error_json(result)
    return row
