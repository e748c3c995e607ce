"""`bottle-fsm gc`: objects that belong to no live bottle."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bottle_fsm.backend.choose import NAMES, make_backend
from bottle_fsm.cli.app import App, app_of
from bottle_fsm.cli.boundary import describe, exit_code_of
from bottle_fsm.cli.door import EventVerb
from bottle_fsm.cli.foresight import state_host
from bottle_fsm.cli.launching import Desk, desk
from bottle_fsm.cli.options import json_option, lock_timeout_option, yes_option
from bottle_fsm.cli.reading import reading
from bottle_fsm.cli.report import Report, error_json, reporting
from bottle_fsm.cli.streams import write_error
from bottle_fsm.errors import BottleError
from bottle_fsm.model import Json, Resource
from bottle_fsm.runner.collect import Collected, Found, Stray, collect, find
from bottle_fsm.safetext import safe

_NEEDED, _LEFTOVERS = 4, 6


@click.command("gc", cls=EventVerb, short_help="Find objects that belong to no live bottle, and remove them.")
@click.option(
    "--all-roots", is_flag=True, help="List objects of other state directories, too; none of them is removed."
)
@yes_option
@lock_timeout_option
@json_option
@click.pass_context
def command(context: click.Context, /, *, all_roots: bool, yes: bool, lock_timeout: float, as_json: bool) -> int:
    """Find objects of this state directory that belong to no live bottle, say why, and remove them.

    Looks at every engine that a recorded plan names, and at today's. On a terminal you are asked before anything is
    removed, elsewhere --yes is needed. A bottle that another process works on is left alone. An object that is newer
    than the journal is named and never touched: this state directory may be a restored copy.
    """
    app = app_of(context)
    with reporting(app, "gc", enabled=as_json) as report:
        with reading(app.directory) as journal:
            found = find(journal, state_host(app.directory), make_backend, today=NAMES, all_roots=all_roots)
        _show(found, report)
        wanted = [s for s in found.strays if not s.undecided]
        done = _remove(app, report, wanted, yes=yes, lock_timeout=lock_timeout) if wanted else Collected((), (), (), ())
        return _end(found, done, report)


def _remove(app: App, report: Report, wanted: Sequence[Stray], *, yes: bool, lock_timeout: float) -> Collected:
    with desk(app, report, sorted({s.bottle for s in wanted}), yes=yes) as at:
        question = f"removes {len(wanted)} object{'' if len(wanted) == 1 else 's'} of {_bottles(wanted)}"
        at.runtime.people.consent("gc", question, hint="Give --yes to agree")
        return _listening(at, wanted, lock_timeout)


def _listening(at: Desk, wanted: Sequence[Stray], lock_timeout: float) -> Collected:
    with at.listening("what is left stays, for another gc"):
        return collect(at.runtime, wanted, lock_timeout=lock_timeout)


def _bottles(strays: Sequence[Stray]) -> str:
    return ", ".join(sorted({s.bottle for s in strays}))


def _show(found: Found, report: Report) -> None:
    for stray in found.strays:
        report.write({"type": "stray", "cause": stray.cause, "undecided": stray.undecided, **_json(stray.resource)})
    for other in found.others:
        report.write({"type": "other_root", **_json(other)})
    if not report.enabled:
        lines = [f"{_text(s.resource)}: {s.cause}{'; not touched' if s.undecided else ''}" for s in found.strays]
        lines += [f"{_text(r)}: of the state directory {r.detail['root']}; not touched" for r in found.others]
        for line in lines:
            click.echo(safe(line))
    for note in found.notes:
        write_error(f"note: {safe(note)}")


def _text(resource: Resource) -> str:
    return f"{resource.detail['bottle']}  {resource.kind} {resource.name}"


def _json(resource: Resource) -> Json:
    return {"bottle": resource.detail["bottle"], "root": resource.detail["root"], "resource": resource.to_json()}


def _end(found: Found, done: Collected, report: Report) -> int:
    undecided = [s for s in found.strays if s.undecided]
    errors: list[BottleError] = [*found.unreachable, *done.errors]
    for error in errors:
        write_error(describe(error))
    if undecided:
        write_error(
            f"error: {safe(_bottles(undecided))}: the journal may be older than these objects. Use the newer state "
            "directory, or remove them by hand."
        )
    unskipped = [s for s in done.left if s.bottle not in done.skipped]
    codes = [exit_code_of(e) for e in errors]
    code = max([*codes, _NEEDED if undecided else 0, _LEFTOVERS if unskipped else 0])
    if not report.enabled:
        write_error(_summary(found, done))
    report.end(
        _outcome(code),
        code,
        removed=[_json(s.resource) for s in done.removed],
        left=[_json(s.resource) for s in done.left],
        undecided=[_json(s.resource) for s in undecided],
        skipped=list(done.skipped),
        errors=[error_json(e) for e in errors],
    )
    return code


def _outcome(code: int) -> str:
    return {0: "ok", 3: "lock_held", _NEEDED: "decision_needed", _LEFTOVERS: "teardown_incomplete"}.get(code, "error")


def _summary(found: Found, done: Collected) -> str:
    if not found.strays:
        return "nothing to collect: every object of this state directory belongs to a live bottle"
    undecided = sum(s.undecided for s in found.strays)
    return f"{len(done.removed)} removed, {len(done.left)} left, {undecided} undecided"
