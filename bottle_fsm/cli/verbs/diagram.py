"""`bottle-fsm diagram`: the state machine as a picture."""

from __future__ import annotations

import click

from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.machine import drawable
from bottle_fsm.machine.diagram import mermaid


@click.command("diagram", cls=Verb, short_help="Print the state machine as a Mermaid diagram.")
def command() -> None:
    """Print the state machine as a Mermaid diagram.

    It is drawn from the definition that runs, states/bottle.yaml.
    """
    click.echo(mermaid(drawable()), nl=False)
