"""`bottle-fsm schema`: the manifest's JSON Schema."""

from __future__ import annotations

import json

import click

from bottle_fsm.cli.door import Verb
from bottle_fsm.manifest.reference import schema


@click.command("schema", cls=Verb, short_help="Print the manifest's JSON Schema.")
def command() -> None:
    """Print the manifest's JSON Schema.

    Editors that know JSON Schema check and complete a manifest with it.
    """
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
