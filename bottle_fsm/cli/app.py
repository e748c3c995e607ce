"""App: what the options that every verb has in common came to, and the state directory they name.

Imports nothing heavy: `status`, `audit` and `--help` start with this alone.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from bottle_fsm.store.root import default_directory

PROGRAM: Final = "bottle-fsm"
SCHEMA: Final = "bottle-fsm/1"
"""Names the shape of everything that `--json` prints."""
OWN_FAILURE: Final = 125
"""Exit code of `exec` and `attach` when not the command inside but we failed."""


@dataclass
class App:
    """The options that hold for the whole process.

    Attributes:
        state_dir: as given; None means the default place.
        debug: show tracebacks. log_file, log: see `bottle_fsm.log`.
        failure_code: takes the place of every exit code of our own failures, for verbs that pass a command's on.
        signum: the signal that a launch was asked to stop by, 0 for none.
    """

    state_dir: Path | None = None
    debug: bool = False
    log_file: Path | None = None
    log: str = "text"
    failure_code: int = 0
    signum: int = 0

    @property
    def directory(self) -> Path:
        """The state directory that is meant."""
        return self.state_dir.absolute() if self.state_dir else default_directory(os.environ)

    def command(self, *words: str) -> str:
        """Return a command line that a person can paste, aimed at the same state directory."""
        where = ("--state-dir", str(self.directory)) if self.state_dir else ()
        return shlex.join((PROGRAM, *where, *words))


def app_of(context: click.Context) -> App:
    """Return the process's App."""
    return context.ensure_object(App)


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a common option where it was given, before or after the verb; the later one wins."""
    if value is not None and parameter.name is not None:
        setattr(app_of(context), parameter.name, value)


def common_options() -> list[click.Parameter]:
    """Return fresh instances of the options that stand before or after every verb."""
    return [
        click.Option(
            ["--state-dir"],
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            expose_value=False,
            callback=_store,
            help="Where journal, locks and keys are. Default: $BOTTLE_FSM_STATE_DIR, else below $XDG_STATE_HOME.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_store,
            help="Show tracebacks of errors.",
        ),
    ]


def log_options() -> list[click.Parameter]:
    """Return fresh instances of the options of verbs that write events."""
    return [
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_store,
            help="Append a JSON line for each committed event to FILE (mode 0600).",
        ),
        click.Option(
            ["--log"],
            type=click.Choice(["text", "json", "console"]),
            default=None,
            expose_value=False,
            callback=_store,
            help="What standard error shows: a table or plain lines (text), or log lines of events (json, console).",
        ),
    ]
