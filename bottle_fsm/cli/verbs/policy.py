"""`bottle-fsm policy`: what the rules of a bottle would have to say."""

from __future__ import annotations

import click

from bottle_fsm.cli.app import App, app_of, common_options
from bottle_fsm.cli.decisions import Collecting, record_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.known import one
from bottle_fsm.cli.options import bottle_argument, json_option
from bottle_fsm.cli.report import reporting
from bottle_fsm.cli.streams import write_error
from bottle_fsm.plan.build import launch_policy
from bottle_fsm.safetext import safe
from bottle_fsm.store.record import BottleRecord
from bottle_fsm.traffic.reading import Reader
from bottle_fsm.traffic.suggest import Suggestion, as_yaml, suggest


@click.group("policy", params=common_options(), short_help="Suggest rules for what a bottle was denied.")
def command() -> None:
    """Suggest rules for what a bottle was denied."""


@command.command("suggest", cls=Verb, short_help="Print what was denied for want of a rule, as lines to review.")
@bottle_argument
@json_option
@click.pass_context
def suggest_(context: click.Context, /, *, bottle: str, as_json: bool) -> int:
    """Print what BOTTLE was denied because no rule names it, as lines of a manifest to review; change nothing.

    Taken from the decisions of its last launch, which need not be there any more. What was denied for its form, or for
    a secret in it, is not among them, nor are addresses. Methods and paths that were seen stand in comments.
    """
    app = app_of(context)
    with reporting(app, "policy suggest", enabled=as_json) as report:
        record = one(app.directory, bottle)
        found = _suggestion(app, record)
        if as_json:
            for item in found.denied:
                report.write({"type": "suggestion", "bottle": record.bottle, "launch": record.launch, **item.to_json()})
        else:
            _print(record, found)
        report.end("ok", 0, suggestions=len(found.denied), left_out=found.left_out)
    return 0


def _suggestion(app: App, record: BottleRecord) -> Suggestion:
    paths = record_of(app.directory, record)
    if problem := Collecting(app.directory).now(record):
        write_error(f"note: the newest decisions cannot be collected: {safe(problem)}")
    plan = record.plan_json
    policy = launch_policy(plan["policy"], bottle=record.bottle, launch=record.launch) if plan else None
    with Reader(paths) as reader:
        return suggest(reader.begin(), lambda host, port: policy is not None and policy.match(host, port) is not None)


def _print(record: BottleRecord, found: Suggestion) -> None:
    if found.left_out:
        write_error(f"note: {found.left_out} names were left out: addresses, or none that a manifest would take")
    if not found.denied:
        write_error(f"{safe(record.bottle)}: nothing was denied for want of a rule")
        return
    click.echo(
        f"# {safe(record.bottle)}, launch {record.launch}: denied, as no rule names it. Review before you add it."
    )
    for line in as_yaml(found):
        click.echo(line)
