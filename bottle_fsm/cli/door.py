"""Door: the command group. Loads a verb's module only when that verb is called, and is the one error boundary.

`--help` needs no verb's module: the short helps stand in the table below, and a test compares them with the verbs.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from bottle_fsm import __version__
from bottle_fsm.cli.app import OWN_FAILURE, PROGRAM, App, common_options, log_options
from bottle_fsm.cli.boundary import guarded
from bottle_fsm.safetext import safe

VERBS: Final = {
    "apply": "Launch, resume, repair or revise the bottles of a manifest.",
    "plan": "Show what apply would do, and with which reach; change nothing.",
    "resume": "Go on with interrupted launches, up or down, from the store alone.",
    "destroy": "Take bottles away and prove that nothing is left.",
    "status": "Show the bottles of this state directory, as last recorded.",
    "exec": "Run a command in a bottle; its exit code is passed on.",
    "attach": "Run a bottle's agent on this terminal.",
    "cp": "Copy files into a bottle, or out of one.",
    "logs": "Show what a bottle's containers wrote.",
    "selftest": "Let a ready bottle prove again what it trusts and what it reaches.",
    "policy": "Suggest rules for what a bottle was denied.",
    "gc": "Find objects that belong to no live bottle, and remove them.",
    "doctor": "Look at this machine: what bottles need, what is missing, what to do.",
    "audit": "Read, verify and export the journal.",
    "diagram": "Print the state machine as a Mermaid diagram.",
    "schema": "Print the manifest's JSON Schema.",
}
"""Every verb with its one line of help, in the order in which help lists them."""
_PASS_ON: Final = frozenset({"exec", "attach"})


class Verb(click.Command):
    """A verb: a click command that takes the common options after its name, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options())


class EventVerb(Verb):
    """A verb that writes events, and so can log them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(log_options())


class Door(click.Group):
    """The group of all verbs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"bottle_fsm.cli.verbs.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the verbs without importing one."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; from here on `exec` and `attach` fail with a code of their own."""
        if args[0] in _PASS_ON:
            ctx.ensure_object(App).failure_code = OWN_FAILURE
        if args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Verbs are {', '.join(VERBS)}."
            raise click.UsageError(f"there is no verb '{safe(args[0])}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> Any:
        """Run a command line and leave the process with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        sys.exit(guarded(App(), lambda app: self._run(app, words)))

    def _run(self, app: App, words: list[str]) -> int:
        with self.make_context(PROGRAM, words, obj=app) as context:
            code = self.invoke(context)
        return code if isinstance(code, int) else 0


def make_door() -> Door:
    """Return the command group."""
    version = click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
    door = Door(
        name=PROGRAM,
        params=[*common_options(), *log_options()],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        help="Launch isolated bottles for AI coding agents, as a durable state machine.",
        epilog=(
            "Exit codes: 0 fine; 1 error; 2 plan has changes, chain broken; 3 lock held; 4 a decision or a value is "
            "needed; 5 launch failed; 6 teardown incomplete; 130, 143 after a signal; of several bottles the highest. "
            "exec and attach pass the command's code on; our own failure is 125."
        ),
    )
    return version(door)
