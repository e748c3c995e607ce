"""`bottle-fsm doctor`: what this machine has for bottles, what it lacks, and what to do about it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.options import json_option
from bottle_fsm.cli.reading import reading
from bottle_fsm.cli.report import reporting
from bottle_fsm.doctor.children import none_left_behind
from bottle_fsm.doctor.examine import Examination, examine
from bottle_fsm.doctor.rows import Level, Row
from bottle_fsm.safetext import safe, safe_block

_MARKS: Final = {Level.OK: "✓", Level.WARNING: "!", Level.FAILED: "✗"}
_PLAIN: Final = {Level.OK: "ok  ", Level.WARNING: "warn", Level.FAILED: "FAIL"}
"""For a terminal that cannot show the marks."""


@click.command("doctor", cls=Verb, short_help="Look at this machine: what bottles need, what is missing, what to do.")
@json_option
@click.pass_context
def command(context: click.Context, /, *, as_json: bool) -> int:
    """Look at this machine: what bottles need, what is missing, what to do.

    Looks at the container engine, at sandboxes without one, at the state directory with its journal, and at leftovers,
    and says which backend `backend: auto` takes. Changes nothing, and waits for nothing longer than a few seconds. The
    exit code is 0 if at least one backend can run bottles, 1 if none can.
    """
    app = app_of(context)
    with reporting(app, "doctor", enabled=as_json) as report:
        with none_left_behind():
            found = examine(app.directory, dict(os.environ), reading)
        code = 0 if found.backends else 1
        for row in found.rows:
            report.write(row.to_json())
        if not report.enabled:
            for line in _page(found, marks=_marks()):
                click.echo(line)
        outcome = "no_backend" if code else "ok"
        report.end(outcome, code, backends=list(found.backends), auto=found.auto)
        return code


def _page(found: Examination, *, marks: dict[Level, str]) -> Iterator[str]:
    """Yield the lines for people: an area, below it its rows, each with what to do."""
    for area, rows in itertools.groupby(found.rows, key=lambda row: row.area):
        yield area
        yield from _area(list(rows), marks)
    yield ""
    able = " and ".join(found.backends)
    yield f"Bottles can run here: {able}." if able else "No bottle can run here. Do what stands beside the failed rows."


def _area(rows: Sequence[Row], marks: dict[Level, str]) -> Iterator[str]:
    width = max(len(row.name) for row in rows)
    margin = 2 + len(marks[Level.OK]) + 1 + width + 2
    for row in rows:
        yield f"  {marks[row.level]} {safe(row.name):<{width}}  {safe(row.found)}"
        if row.remedy:
            yield f"{'':<{margin}}→ {safe_block(row.remedy, indent=' ' * (margin + 2))}"


def _marks() -> dict[Level, str]:
    try:
        "✓✗→".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN
    return _MARKS
