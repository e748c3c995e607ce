"""`bottle-fsm resume`: go on with interrupted launches."""

from __future__ import annotations

from functools import partial
from typing import Literal

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import EventVerb
from bottle_fsm.cli.known import known
from bottle_fsm.cli.launching import AFTER_SIGNAL, PARALLEL, Manner, Work, desk, nothing_to_do
from bottle_fsm.cli.options import all_option, bottles_argument, json_option, lock_timeout_option, yes_option
from bottle_fsm.cli.report import reporting
from bottle_fsm.runner.verbs import resume


@click.command("resume", cls=EventVerb, short_help="Go on with interrupted launches, up or down, from the store alone.")
@bottles_argument
@all_option
@click.option(
    "--on-failure",
    type=click.Choice(["teardown", "keep"]),
    help="What becomes of a launch that fails again. Default: as its apply said.",
)
@yes_option
@lock_timeout_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context,
    /,
    *,
    bottles: tuple[str, ...],
    every: bool,
    on_failure: Literal["teardown", "keep"] | None,
    yes: bool,
    lock_timeout: float,
    as_json: bool,
) -> int:
    """Go on with interrupted launches, up or down, from the store alone.

    The manifest file is not needed: what the launch was made from is in the journal. A ready bottle is looked at and
    repaired if need be; a teardown that was begun is finished.
    """
    app = app_of(context)
    manner = Manner(yes=yes, parallel=PARALLEL, after_signal=AFTER_SIGNAL[on_failure])
    with reporting(app, "resume", enabled=as_json) as report:
        names = known(app.directory, bottles, every=every)
        if not names:
            return nothing_to_do(report)
        with desk(app, report, names, yes=yes) as at:
            work: dict[str, Work] = {
                name: partial(resume, at.runtime, name, on_failure=on_failure, lock_timeout=lock_timeout)
                for name in names
            }
            return at.run(work, manner)
