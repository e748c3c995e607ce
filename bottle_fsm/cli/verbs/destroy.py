"""`bottle-fsm destroy`: take bottles away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import EventVerb
from bottle_fsm.cli.known import known
from bottle_fsm.cli.launching import PARALLEL, Manner, Work, desk, nothing_to_do
from bottle_fsm.cli.options import all_option, bottles_argument, json_option, lock_timeout_option, yes_option
from bottle_fsm.cli.report import reporting
from bottle_fsm.errors import UsageError
from bottle_fsm.runner.verbs import destroy


@click.command("destroy", cls=EventVerb, short_help="Take bottles away and prove that nothing is left.")
@bottles_argument
@all_option
@yes_option
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Bring the workspace out to DIR first, which must not exist; of several bottles to DIR/PROJECT/AGENT.",
)
@lock_timeout_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context,
    /,
    *,
    bottles: tuple[str, ...],
    every: bool,
    yes: bool,
    save: Path | None,
    lock_timeout: float,
    as_json: bool,
) -> int:
    """Take bottles away and prove that nothing is left.

    A bottle that was ready once may hold work: on a terminal you are asked, elsewhere --yes or --save is needed. It is
    called torn down only when a look at the world finds nothing of it. What could not be removed is named, and another
    destroy goes on from there.
    """
    app = app_of(context)
    manner = Manner(yes=yes, parallel=PARALLEL, after_signal="the teardown goes on to its end")
    with reporting(app, "destroy", enabled=as_json) as report:
        names = known(app.directory, bottles, every=every)
        if not names:
            return nothing_to_do(report)
        places = _places(save, names)
        with desk(app, report, names, yes=yes) as at:
            work: dict[str, Work] = {
                name: partial(destroy, at.runtime, name, save=places.get(name), discard=yes, lock_timeout=lock_timeout)
                for name in names
            }
            return at.run(work, manner)


def _places(save: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """Return where each workspace goes; refuse before anything is removed."""
    if save is None:
        return {}
    places = {name: save.joinpath(*name.split("/")) if len(names) > 1 else save for name in names}
    for place in places.values():
        if place.exists() or place.is_symlink():
            raise UsageError(f"{place} exists", place="--save", hint="Name a directory that does not exist yet")
        place.parent.mkdir(parents=True, exist_ok=True)
    return places
