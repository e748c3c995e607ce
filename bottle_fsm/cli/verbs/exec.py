"""`bottle-fsm exec`: run a command in a bottle."""

from __future__ import annotations

import click

from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.inside import run_inside
from bottle_fsm.cli.options import bottle_argument, force_enter_option
from bottle_fsm.cli.target import reach


@click.command(
    "exec",
    cls=Verb,
    context_settings={"allow_interspersed_args": False},
    short_help="Run a command in a bottle; its exit code is passed on.",
)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal; standard input must be one.")
@click.option("-w", "--workdir", metavar="DIR", help="Where it runs. Default: the workspace.")
@force_enter_option
@bottle_argument
@click.argument("argv", nargs=-1, metavar="-- COMMAND [ARG]...", type=click.UNPROCESSED)
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context,
    /,
    *,
    bottle: str,
    argv: tuple[str, ...],
    interactive: bool,
    tty: bool,
    workdir: str | None,
    force: bool,
) -> int:
    """Run a command in a bottle, as the agent's user and with the agent's environment.

    The command's exit code is passed on. Our own failures end with 125.
    """
    words = argv[1:] if argv[:1] == ("--",) else argv
    target = reach(app_of(context), bottle, unready=force)
    return run_inside(target, words, stdin=interactive or tty, tty=tty, workdir=workdir)
