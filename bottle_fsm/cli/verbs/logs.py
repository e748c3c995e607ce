"""`bottle-fsm logs`: what a bottle's containers wrote."""

from __future__ import annotations

import sys
from typing import Final

import click

from bottle_fsm import naming
from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.decisions import decisions
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.options import bottle_argument
from bottle_fsm.cli.target import reach
from bottle_fsm.errors import UsageError
from bottle_fsm.safetext import safe

_ROLES: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)
_TAIL: Final = 200


@click.command("logs", cls=Verb, short_help="Show what a bottle's containers wrote.")
@bottle_argument
@click.option("--role", type=click.Choice(_ROLES), help="Only this container's. Default: all, each line with its role.")
@click.option(
    "--tail", type=click.IntRange(min=1), default=_TAIL, show_default=True, metavar="N", help="How many last lines."
)
@click.option("--egress", is_flag=True, help="Only the interceptor's decisions: what was allowed and what was refused.")
@click.pass_context
def command(context: click.Context, /, *, bottle: str, role: str | None, tail: int, egress: bool) -> int:
    """Show what a bottle's containers wrote, whatever state the bottle is in.

    A terminal is shown control characters spelled out; a pipe or file gets the bytes as they are.
    """
    if egress and role not in {None, naming.ROLE_INTERCEPTOR}:
        raise UsageError("decisions are the interceptor's", place="--role", hint="Leave --role away with --egress")
    target = reach(app_of(context), bottle, unready=True)
    if egress:
        _write(decisions(target.backend.logs(target.launch, naming.ROLE_INTERCEPTOR, tail)))
        return 0
    for wanted in (role,) if role else _ROLES:
        data = target.backend.logs(target.launch, wanted, tail)
        _write(data if role else _marked(wanted, data))
    return 0


def on_terminal() -> bool:
    """Tell whether a terminal shows what is written."""
    return sys.stdout.isatty()


def _marked(role: str, data: bytes) -> bytes:
    return b"".join(f"{role:<11} | ".encode() + line + b"\n" for line in data.splitlines())


def _write(data: bytes) -> None:
    if on_terminal():
        for line in data.decode(errors="replace").split("\n")[: -1 if data.endswith(b"\n") else None]:
            click.echo(safe(line.rstrip("\r")))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
