"""`bottle-fsm attach`: run a bottle's agent on this terminal."""

from __future__ import annotations

import sys

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.inside import run_inside
from bottle_fsm.cli.options import bottle_argument, force_enter_option
from bottle_fsm.cli.target import reach
from bottle_fsm.errors import StoreError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.plan.build import agent_command
from bottle_fsm.store.record import BottleRecord


@click.command("attach", cls=Verb, short_help="Run a bottle's agent on this terminal.")
@force_enter_option
@bottle_argument
@click.pass_context
def command(context: click.Context, /, *, bottle: str, force: bool) -> int:
    """Run a bottle's agent on this terminal: the manifest's command, or the provider's.

    Its exit code is passed on. Our own failures end with 125. Without a terminal it reads standard input.
    """
    target = reach(app_of(context), bottle, unready=force)
    return run_inside(target, _agent_command(target.record), stdin=True, tty=sys.stdin.isatty())


def _agent_command(record: BottleRecord) -> tuple[str, ...]:
    agent = BottleSpec.from_json(record.spec_json).agent_model
    if agent is None:
        raise StoreError("the recorded manifest has no such agent", place=record.bottle)
    return agent_command(agent)
