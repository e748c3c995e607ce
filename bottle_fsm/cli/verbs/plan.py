"""`bottle-fsm plan`: what apply would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.foresight import Foresight, foresee, state_host
from bottle_fsm.cli.options import BACKENDS, json_option, manifest_argument
from bottle_fsm.cli.report import reporting
from bottle_fsm.cli.wanted import wanted
from bottle_fsm.plan.render import render, to_json

_CHANGES = 2


@click.command("plan", cls=Verb, short_help="Show what apply would do, and with which reach; change nothing.")
@manifest_argument
@click.argument("bottles", nargs=-1, metavar="[BOTTLE]...")
@click.option("--name", metavar="NAME", help="Take this project name instead of the manifest's.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Take this backend instead of the manifest's.")
@json_option
@click.option(
    "--detailed-exitcode", is_flag=True, help="End with 2 when apply would change something, with 0 when not."
)
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context,
    /,
    *,
    manifest: Path,
    bottles: tuple[str, ...],
    name: str | None,
    backend: str | None,
    as_json: bool,
    detailed_exitcode: bool,
) -> int:
    """Show what apply would do for MANIFEST, each step with its cause, and with which reach; change nothing.

    A bottle that exists is compared with the world as it is now.
    """
    app = app_of(context)
    with reporting(app, "plan", enabled=as_json) as report:
        here = state_host(app.directory)
        meant = wanted(manifest, bottles, here, name=name, backend=backend)
        found = [foresee(app.directory, here, spec) for spec in meant.specs]
        for one in found:
            known = {"changes": one.changes, "notes": one.notes, "remarks": list(meant.remarks[one.plan.bottle])}
            report.write({"type": "plan", **known, **to_json(one.plan, one.operations)})
        if not as_json:
            click.echo("\n\n".join(_text(one, meant.remarks[one.plan.bottle]) for one in found))
        changed = any(one.changes for one in found)
        code = _CHANGES if detailed_exitcode and changed else 0
        report.end("changes" if changed else "no_changes", code)
    return code


def _text(one: Foresight, warnings: Sequence[str]) -> str:
    text = render(one.plan, one.operations, headline=one.headline, provider_hosts=one.provider_hosts, warnings=warnings)
    return "\n".join([text, *(f"  note: {note}" for note in one.notes)])
