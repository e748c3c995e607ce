"""`bottle-fsm selftest`: a ready bottle proves again what it proved before it was handed over."""

from __future__ import annotations

from functools import partial

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import EventVerb
from bottle_fsm.cli.known import one
from bottle_fsm.cli.launching import Manner, desk
from bottle_fsm.cli.options import bottle_argument, json_option, lock_timeout_option
from bottle_fsm.cli.report import reporting
from bottle_fsm.runner.prove import prove


@click.command(
    "selftest", cls=EventVerb, short_help="Let a ready bottle prove again what it trusts and what it reaches."
)
@bottle_argument
@lock_timeout_option
@json_option
@click.pass_context
def command(context: click.Context, /, *, bottle: str, lock_timeout: float, as_json: bool) -> int:
    """Let a ready bottle prove again what it trusts and what it reaches, from inside.

    The trust gate and the egress self-test run as before the hand-over, and show the same tables. The exit code is 0
    when no row failed and 1 when one did. Nothing is changed, whatever a row says: `resume` mends drift, `destroy` ends
    the bottle. The rows are kept as one event, for `audit`.
    """
    app = app_of(context)
    manner = Manner(yes=False, parallel=1, after_signal="the self-test ends, and the bottle stays as it is")
    with reporting(app, "selftest", enabled=as_json) as report:
        name = one(app.directory, bottle).bottle
        with desk(app, report, [name], yes=False) as at:
            return at.run({name: partial(prove, at.runtime, name, lock_timeout=lock_timeout)}, manner)
