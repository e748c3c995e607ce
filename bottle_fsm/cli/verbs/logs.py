"""`bottle-fsm logs`: what a bottle's containers wrote, and what its sidecars decided."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Final

import click

from bottle_fsm import naming
from bottle_fsm.cli.app import App, app_of
from bottle_fsm.cli.decisions import Collecting, is_of, record_of, text_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.known import one
from bottle_fsm.cli.options import bottle_argument
from bottle_fsm.cli.streams import write_error
from bottle_fsm.cli.target import reach
from bottle_fsm.errors import BackendError, UsageError
from bottle_fsm.safetext import safe
from bottle_fsm.store.record import TORN_DOWN, BottleRecord
from bottle_fsm.traffic.cursor import load
from bottle_fsm.traffic.lines import SOURCES
from bottle_fsm.traffic.reading import Reader

_ROLES: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
_TAIL: Final = 200
_POLL_SECONDS: Final = 1.0


@click.command("logs", cls=Verb, short_help="Show what a bottle's containers wrote.")
@bottle_argument
@click.option("--role", type=click.Choice(_ROLES), help="Only this container's. Default: all, each line with its role.")
@click.option(
    "--tail", type=click.IntRange(min=1), default=_TAIL, show_default=True, metavar="N", help="How many last lines."
)
@click.option(
    "--egress",
    is_flag=True,
    help="Only decisions: what was allowed and what was refused. Those of a bottle that is gone as well.",
)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="With --egress: go on with what comes, until Ctrl-C or until the bottle is torn down.",
)
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context, /, *, bottle: str, role: str | None, tail: int, egress: bool, follow: bool
) -> int:
    """Show what a bottle's containers wrote, whatever state the bottle is in.

    A terminal is shown control characters spelled out; a pipe or file gets the bytes as they are. Decisions (--egress)
    are collected first and kept in the state directory; a terminal gets a line of text for each, a pipe JSON lines.
    """
    if egress and role not in {None, *SOURCES}:
        raise UsageError("the agent decides nothing", place="--role", hint="Leave --role away with --egress")
    if follow and not egress:
        raise UsageError("only decisions can be followed", place="--follow", hint="Give --egress, too")
    app = app_of(context)
    if egress:
        return _decisions(app, one(app.directory, bottle), role, tail, follow=follow)
    target = reach(app, bottle, unready=True)
    for wanted in (role,) if role else _ROLES:
        data = target.backend.logs(target.launch, wanted, tail)
        _write(data if role else _marked(wanted, data))
    return 0


def on_terminal() -> bool:
    """Tell whether a terminal shows what is written."""
    return sys.stdout.isatty()


# -- decisions ---------------------------------------------------------------------------------------------------------


def _decisions(app: App, record: BottleRecord, role: str | None, tail: int, *, follow: bool) -> int:
    """Show the last decisions of a bottle's launch, and those that come."""
    paths = record_of(app.directory, record)
    collecting = Collecting(app.directory)
    problem = collecting.now(record)
    with Reader(paths) as reader:
        lines = [line for line in reader.begin() if is_of(line, role)]
        if problem and not lines and not follow:
            raise BackendError(f"decisions cannot be collected: {problem}", place=record.bottle)
        _note(problem)
        if gone := load(paths.cursor).gone:
            write_error(f"note: {gone} earlier lines had no room in the record and are gone")
        if not lines and not follow:
            write_error(f"{safe(record.bottle)}: nothing was decided yet")
        _show(lines[-tail:])
        while follow:
            now = one(app.directory, record.bottle)
            same = now.launch == record.launch
            before, problem = problem, collecting.now(now) if same else ""
            _show(line for line in reader.more() if is_of(line, role))
            _note(problem if problem != before else "")
            if not same or now.state == TORN_DOWN:
                break
            time.sleep(_POLL_SECONDS)
    return 0


def _note(problem: str) -> None:
    if problem:
        write_error(f"note: the newest decisions cannot be collected: {safe(problem)}")


def _show(lines: Iterable[bytes]) -> None:
    if on_terminal():
        for line in lines:
            click.echo(safe(text_of(line)))
        return
    _write(b"".join(line + b"\n" for line in lines))


# -- what was written --------------------------------------------------------------------------------------------------


def _marked(role: str, data: bytes) -> bytes:
    return b"".join(f"{role:<11} | ".encode() + line + b"\n" for line in data.splitlines())


def _write(data: bytes) -> None:
    if on_terminal():
        for line in data.decode(errors="replace").split("\n")[: -1 if data.endswith(b"\n") else None]:
            click.echo(safe(line.rstrip("\r")))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
