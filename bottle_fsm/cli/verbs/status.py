"""`bottle-fsm status`: the bottles of a state directory, from the store alone."""

from __future__ import annotations

import json

import click

from bottle_fsm.cli.app import App, app_of
from bottle_fsm.cli.choice import choose_all
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.options import bottles_argument, json_option
from bottle_fsm.cli.reading import records
from bottle_fsm.cli.standing import Standing, details, standing_of, table


@click.command("status", cls=Verb, short_help="Show the bottles of this state directory, as last recorded.")
@bottles_argument
@json_option
@click.option("--drift", is_flag=True, help="Look at the world, too, and list what is not as recorded, with the cause.")
@click.pass_context
def command(context: click.Context, /, *, bottles: tuple[str, ...], as_json: bool, drift: bool) -> int:
    """Show the bottles of this state directory, as last recorded; one that is named is shown in full.

    Reads the store alone, so it needs no engine and says when the bottle was last looked at. With --json, one object
    for each bottle and line, torn-down ones included.
    """
    app = app_of(context)
    found = {record.bottle: record for record in records(app.directory)}
    chosen = choose_all(bottles, found) if bottles else list(found)
    standings = [standing_of(app.directory, found[name]) for name in chosen]
    if drift:
        standings = _looked_at(app, standings)
    if as_json:
        for standing in standings:
            click.echo(json.dumps(standing.to_json()))
    elif bottles:
        click.echo("\n\n".join(details(standing) for standing in standings))
    elif standings:
        click.echo(table(standings))
    else:
        click.echo(f"No bottles in {app.directory}. `bottle-fsm apply MANIFEST` makes one.", err=True)
    return 0


def _looked_at(app: App, standings: list[Standing]) -> list[Standing]:
    from bottle_fsm.cli.drift import look  # noqa: PLC0415 - start-up budget: only a look needs backends

    return [look(app.directory, standing) for standing in standings]
