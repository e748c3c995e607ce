"""Options and arguments that several verbs share, with one wording each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

BACKENDS: Final = ("auto", "docker", "local", "fake")

manifest_argument = click.argument("manifest", type=click.Path(path_type=Path), metavar="MANIFEST")
bottles_argument = click.argument("bottles", nargs=-1, metavar="[BOTTLE]...")
bottle_argument = click.argument("bottle", metavar="BOTTLE")
all_option = click.option("--all", "every", is_flag=True, help="All bottles of this state directory.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line, to standard output."
)
yes_option = click.option("--yes", is_flag=True, help="Agree to every question.")
lock_timeout_option = click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a bottle that another process works on.",
)
force_enter_option = click.option(
    "--force", is_flag=True, help="Enter a bottle that is not ready, for a look at what went wrong."
)
