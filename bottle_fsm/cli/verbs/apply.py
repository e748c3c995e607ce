"""`bottle-fsm apply`: bring bottles to what their manifest says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import click

from bottle_fsm.backend.choose import choose
from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import EventVerb
from bottle_fsm.cli.launching import AFTER_SIGNAL, PARALLEL, Desk, Manner, Work, desk, host
from bottle_fsm.cli.options import BACKENDS, json_option, lock_timeout_option, manifest_argument, yes_option
from bottle_fsm.cli.report import reporting
from bottle_fsm.cli.wanted import wanted
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.runner.verbs import Wish, apply
from bottle_fsm.safetext import safe
from bottle_fsm.store.record import TORN_DOWN


@click.command("apply", cls=EventVerb, short_help="Launch, resume, repair or revise the bottles of a manifest.")
@manifest_argument
@click.argument("bottles", nargs=-1, metavar="[BOTTLE]...")
@click.option("--name", metavar="NAME", help="Take this project name instead of the manifest's.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Take this backend instead of the manifest's.")
@click.option(
    "--on-failure",
    type=click.Choice(["teardown", "keep"]),
    default="teardown",
    show_default=True,
    help="What becomes of a launch that fails. A bottle that was ready once is always kept.",
)
@yes_option
@lock_timeout_option
@json_option
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=PARALLEL,
    show_default=True,
    metavar="N",
    help="How many bottles to work on at a time.",
)
@click.pass_context
def command(  # noqa: PLR0913 - the options of the verb
    context: click.Context,
    /,
    *,
    manifest: Path,
    bottles: tuple[str, ...],
    name: str | None,
    backend: str | None,
    on_failure: Literal["teardown", "keep"],
    yes: bool,
    lock_timeout: float,
    as_json: bool,
    parallel: int,
) -> int:
    """Launch, resume, repair or revise the bottles of MANIFEST.

    Without BOTTLE, all of them. A bottle that is interrupted is resumed; one that is as the manifest says is left
    alone; one that is damaged is repaired; one whose manifest changed is revised, and made again only if it must be.

    Nothing is created before the whole manifest was checked against this host.
    """
    app = app_of(context)
    manner = Manner(yes=yes, parallel=parallel, after_signal=AFTER_SIGNAL[on_failure])
    with reporting(app, "apply", enabled=as_json) as report:
        meant = wanted(manifest, bottles, host("", app.directory), name=name, backend=backend)
        specs = meant.specs
        with desk(app, report, [spec.bottle for spec in specs], yes=yes) as at:
            for remark in dict.fromkeys(text for texts in meant.remarks.values() for text in texts):
                at.displays.say(f"warning: {safe(remark)}")
            chosen = _backends(at, specs)
            work: dict[str, Work] = {}
            for spec in specs:
                wish = Wish(spec, chosen[spec.bottle], on_failure)
                work[spec.bottle] = partial(apply, at.runtime, wish, lock_timeout=lock_timeout)
            return at.run(work, manner)


def _backends(at: Desk, specs: tuple[BottleSpec, ...]) -> dict[str, str]:
    """Settle `auto` once for all bottles; a bottle that lives stays where it is."""
    found: dict[str, str] = {}
    picked = None
    for spec in specs:
        name = spec.manifest.backend
        record = at.runtime.journal.record(spec.bottle)
        if name == "auto" and record is not None and record.launch and record.state != TORN_DOWN:
            found[spec.bottle] = record.backend
            continue
        if picked is None:
            picked = choose(name, at.runtime.host)
            if name == "auto":
                at.displays.say(f"backend auto takes {safe(picked.name)}: {safe(picked.reason)}")
        found[spec.bottle] = picked.name
    return found
