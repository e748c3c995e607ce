"""`bottle-fsm audit`: read, verify and export the journal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bottle_fsm.audit.export import to_lines
from bottle_fsm.audit.query import KINDS, Filter, select
from bottle_fsm.audit.verify import Verified, verify_chain, verify_file, verify_records
from bottle_fsm.cli.app import App, app_of, common_options
from bottle_fsm.cli.choice import choose
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.options import json_option
from bottle_fsm.cli.reading import reading
from bottle_fsm.cli.report import reporting
from bottle_fsm.model import Event
from bottle_fsm.safetext import safe
from bottle_fsm.store.raw import raw_rows


class _Audit(click.Group):
    """A group whose name alone, or with a bottle, means `show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` where no part is named."""
        first = args[0] if args else ""
        if first not in self.commands and first not in {"-h", "--help"}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("audit", cls=_Audit, params=common_options(), short_help="Read, verify and export the journal.")
def command() -> None:
    """Read, verify and export the journal.

    Without the name of a part, `show`: `bottle-fsm audit demo/implementer --kind failed`. Needs no engine and no lock.
    """


@command.command("show", cls=Verb, short_help="Show events.")
@click.argument("bottle", required=False, metavar="[BOTTLE]")
@click.option("--launch", default="", metavar="ID", help="Only this launch; the beginning of its id is enough.")
@click.option("--kind", default="", type=click.Choice(["", *KINDS]), metavar="KIND", help=f"One of {', '.join(KINDS)}.")
@json_option
@click.pass_context
def show(context: click.Context, /, *, bottle: str | None, launch: str, kind: str, as_json: bool) -> int:
    """Show events in order: of BOTTLE, or of all."""
    app = app_of(context)
    with reporting(app, "audit", enabled=as_json) as report, reading(app.directory) as journal:
        count = 0
        if journal is not None:
            name = choose(bottle, [r.bottle for r in journal.records()]) if bottle else ""
            for event in select(journal, Filter(name, launch, kind)):
                count += 1
                report.event(event)
                if not as_json:
                    click.echo(line_of(event))
        report.end("ok", 0, events=count)
    return 0


@command.command("verify", cls=Verb, short_help="Check that no event was changed, moved or removed.")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@json_option
@click.pass_context
def verify(context: click.Context, /, *, file: Path | None, as_json: bool) -> int:
    """Check that no event was changed, moved or removed: of the journal, or of an exported FILE.

    Exit code 2 names the first event that is wrong. Keep the head that is printed elsewhere, and you can tell later
    that nothing was cut off the end.
    """
    app = app_of(context)
    with reporting(app, "audit verify", enabled=as_json) as report:
        found = verify_file(file) if file is not None else _verify_journal(app)
        if not as_json:
            click.echo(f"the chain holds: {found.events} events, head {found.head}")
        report.end("ok", 0, events=found.events, head=found.head)
    return 0


@command.command("export", cls=Verb, short_help="Write all events as lines that can be checked elsewhere.")
@click.option("--format", "style", type=click.Choice(["jsonl"]), default="jsonl", show_default=True, help="The shape.")
@click.pass_context
def export(context: click.Context, /, *, style: str) -> int:  # noqa: ARG001 - one shape so far; its name is the promise
    """Write all events to standard output, as lines that `audit verify FILE` checks anywhere.

    Each line holds the stored bytes of one event and their SHA-256.
    """
    for line in to_lines(raw_rows(app_of(context).directory)):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0


def line_of(event: Event) -> str:
    """Return an event on one line, as people read it."""
    edge = f"{event.source}→{event.dest}" if event.dest else ""
    step = str(event.evidence.get("step", ""))
    took = f"{event.duration:.3f}s" if event.duration else ""
    words = [event.bottle, event.launch, event.kind, event.trigger, edge, step, event.cause, event.error, took]
    return "  ".join([f"{event.sequence:>6}", event.time, *(safe(word) for word in words if word)])


def _verify_journal(app: App) -> Verified:
    found = verify_chain(app.directory)
    with reading(app.directory) as journal:
        return verify_records(journal) if journal is not None else found
