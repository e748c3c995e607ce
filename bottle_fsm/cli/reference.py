"""The pages `docs/cli.md` and `docs/states.md`, made from what runs: the verbs' help and the machine's definition.

To renew them: `python -c "from bottle_fsm.cli.reference import write_pages; write_pages('docs')"`. Tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from bottle_fsm.cli.app import PROGRAM
from bottle_fsm.cli.door import VERBS, Door, make_door
from bottle_fsm.cli.machine import drawable
from bottle_fsm.machine.definition import Definition, Transition
from bottle_fsm.machine.diagram import mermaid

_CODES: Final = (
    ("0", "fine, or nothing to do"),
    ("1", "an error, usage included"),
    ("2", "the plan has changes (`plan --detailed-exitcode`); the chain is broken (`audit verify`)"),
    ("3", "another process holds the bottle's lock"),
    ("4", "a decision or a value is needed from a person"),
    ("5", "the launch failed; it was torn down, or kept if asked (`--json` says which)"),
    ("6", "the teardown is incomplete; what is left is named"),
    ("125", "`exec` and `attach`: not the command inside but we failed; any other code is the command's"),
    ("130, 143", "after SIGINT, SIGTERM (128 + the signal's number, for others, too)"),
)
_CLI_INTRO: Final = """# The command line

Generated from the verbs' own help (`bottle_fsm/cli/reference.py`); a test keeps both equal.

- A BOTTLE is written `project/agent`. The agent's name alone, or the beginning of either, is enough while it means only
  one.
- People get words on standard error: a live table on a terminal, plain lines elsewhere. Programs get `--json` on
  standard output, one object per line: the first names the schema (`bottle-fsm/1`), then one for each committed event
  (`"type": "event"`), the last has `outcome` and `exit_code`, and for each bottle what became of it. `status --json`
  prints one object for each bottle and nothing else.
- Without a terminal nothing is asked. What needs a yes is refused unless `--yes` is given; what needs a value ends with
  exit code 4 and names it.
- The first Ctrl-C (SIGTERM likewise) lets the current step finish and then does what `--on-failure` says. A second one
  stops at once; the journal makes that safe. SIGHUP keeps everything as it is.
- `--state-dir`, `--debug`, `--log` and `--log-file` may stand before or after the verb.
- `--log-file FILE` appends a JSON line for each committed event, with its sequence in the journal. `--log json` and
  `--log console` print such lines on standard error instead of the table.
"""
_STATES_INTRO: Final = """# States of a bottle

Generated from `states/bottle.yaml`, which is what runs (`bottle_fsm/cli/reference.py`); a test keeps both equal.
"""
_UNIT: Final = "s"
_WIDTH: Final = 100


def write_pages(directory: str | Path) -> None:
    """Write both pages into a directory."""
    for name, text in (("cli.md", cli_page()), ("states.md", states_page())):
        Path(directory, name).write_text(text, encoding="utf-8")


def cli_page() -> str:
    """Return the page about the command line."""
    door = make_door()
    context = _context(door, PROGRAM)
    codes = ["## Exit codes", "", "| code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in _CODES)]
    several = "Of several bottles, the highest counts."
    parts = [_CLI_INTRO, "\n".join([*codes, "", several, ""]), _section(PROGRAM, door.get_help(context))]
    return "\n".join([*parts, *_verbs(door, context)])


def states_page() -> str:
    """Return the page about the machine."""
    definition = drawable()
    states = ["| state | true when it is reached |", "|---|---|"]
    states += [f"| `{state.name}` | {state.means} |" for state in definition.states]
    taken = ", ".join(f"`{version}`" for version in definition.migrates_from) or "none"
    return "\n".join(
        [
            _STATES_INTRO,
            f"Launches of these earlier versions of the machine go on under it: {taken}.",
            "",
            *states,
            "",
            "## Transitions",
            "",
            *_transitions(definition),
            "",
            "## Picture",
            "",
            diagram(),
            "",
        ]
    )


def diagram() -> str:
    """Return the picture as Markdown, as the README has it between its markers."""
    return f"```mermaid\n{mermaid(drawable())}```"


def _verbs(door: Door, parent: click.Context) -> Iterator[str]:
    for name in VERBS:
        command = door.get_command(parent, name)
        if command is None:
            continue
        context = _context(command, name, parent)
        yield _section(name, command.get_help(context))
        if isinstance(command, click.Group):
            for part, inner in command.commands.items():
                below = _context(inner, part, context)
                yield _section(f"{name} {part}", inner.get_help(below))


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(
        command,
        parent=parent,
        info_name=name,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


def _section(title: str, text: str) -> str:
    clean = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return f"## `{title}`\n\n```text\n{clean}\n```\n"


def _transitions(definition: Definition) -> list[str]:
    head = ["| trigger | from | to | effect | undone by | attempt, all attempts | tried again after |"]
    return [*head, "|---|---|---|---|---|---|---|", *(_transition(t) for t in definition.transitions)]


def _transition(transition: Transition) -> str:
    needs = f" (needs `{transition.needs}`)" if transition.needs else ""
    effect = f"`{transition.effect}`{needs}" if transition.effect else "–"
    undo = f"`{transition.compensate}`" if transition.compensate else "–"
    times = f"{transition.attempt_timeout:g} {_UNIT}, {transition.deadline:g} {_UNIT}" if transition.effect else "–"
    retry = transition.retry
    again = f"{', '.join(retry.on)}; {retry.max_attempts} attempts" if retry.on else "–"
    source = ", ".join(f"`{name}`" for name in transition.source)
    return f"| `{transition.trigger}` | {source} | `{transition.dest}` | {effect} | {undo} | {times} | {again} |"
