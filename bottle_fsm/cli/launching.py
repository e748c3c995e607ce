"""Launching: what apply, resume and destroy share: the open runtime, signals, the work, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.backend import choose as backends
from bottle_fsm.cli.app import App
from bottle_fsm.cli.display import Display, Displays, EventsOnly, PlainLines
from bottle_fsm.cli.ending import Ending
from bottle_fsm.cli.live import LiveTable
from bottle_fsm.cli.report import Report
from bottle_fsm.cli.story import Line, Story, colons
from bottle_fsm.cli.streams import write_error
from bottle_fsm.cli.terminal import Terminal
from bottle_fsm.log import EventLog, Style, open_log_file
from bottle_fsm.model import Event, Host
from bottle_fsm.runner.many import exit_code, run_many
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop, on_signals
from bottle_fsm.runner.verbs import Outcome
from bottle_fsm.store.findings import ca_fingerprint
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root

Work = Callable[[], Outcome]
PARALLEL: Final = 4
"""How many bottles are worked on at a time unless `--parallel` says otherwise."""
AFTER_SIGNAL: Final = {
    "teardown": "what this launch made is taken away (a bottle that was ready once is kept)",
    "keep": "everything is kept as it is, for `bottle-fsm resume`",
    None: "what was launched is taken away or kept, as its apply said",
}
"""What happens after a first signal, by `--on-failure`."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a verb that launches is to behave.

    Attributes:
        yes: agree to every question. parallel: bottles at a time. after_signal: what happens after a first signal.
    """

    yes: bool
    parallel: int
    after_signal: str


class Desk:
    """One process's runtime, with its displays and its report."""

    def __init__(self, app: App, runtime: Runtime, displays: Displays, report: Report) -> None:
        self.app = app
        self.runtime = runtime
        self.displays = displays
        self._report = report

    @contextmanager
    def listening(self, after_signal: str) -> Iterator[None]:
        """Let signals ask for a stop while the body runs; `after_signal` tells the person what happens then."""

        def notify(signum: int) -> None:
            self.app.signum = signum
            self.displays.note(_after_signal(signum, after_signal))

        with on_signals(self.runtime.stop, notify):
            yield

    def run(self, work: Mapping[str, Work], manner: Manner) -> int:
        """Run the work of each bottle, tell how each ended, and return the exit code."""
        with self.listening(manner.after_signal):
            results = run_many(work, parallel=manner.parallel, ended=lambda _bottle, _result: None)
        self.displays.close()
        code = exit_code(list(results.values()))
        Ending(self.app, self.runtime.journal, self._report).tell(results, code)
        return code


def nothing_to_do(report: Report) -> int:
    """Tell that no bottle is meant, without opening anything; return the exit code."""
    write_error("nothing to do: every bottle of this state directory is torn down, or there is none")
    report.end("ok", 0, bottles=[])
    return 0


@contextmanager
def desk(app: App, report: Report, bottles: Sequence[str], *, yes: bool) -> Iterator[Desk]:
    """Open the state directory for writing, and everything that a launch shows itself on.

    Raises:
        StoreError, DecisionNeededError: the state directory cannot be used.
        UsageError: the log file cannot be written.
    """
    root = open_root(app.directory)
    journal = Journal(root.path, root.root_id)
    displays = Displays(_displays(app, report, bottles))
    stop = Stop()
    try:
        yield Desk(
            app,
            Runtime(
                root=root,
                journal=journal,
                definition=load_definition(),
                host=host(root.root_id, root.path),
                make_backend=backends.make_backend,
                people=Terminal(displays, stop, yes=yes),
                stop=stop,
            ),
            displays,
            report,
        )
    finally:
        displays.close()
        journal.close()


def host(root_id: str, state_dir: Path) -> Host:
    """Return what backends may know of this machine."""
    return Host(root_id=root_id, state_dir=state_dir, home=Path("~").expanduser(), environ=dict(os.environ))


def _displays(app: App, report: Report, bottles: Sequence[str]) -> list[Display]:
    found: list[Display] = []
    if app.log_file is not None:
        log = open_log_file(app.log_file)
        found.append(EventsOnly(log.write, log.close))
    if report.enabled:
        found.append(EventsOnly(report.event))
    if app.log == "text":
        found.append(_for_people(report, bottles))
    else:
        found.append(_log_lines("json" if app.log == "json" else "console"))
    return found


def _log_lines(style: Style) -> Display:
    def note(text: str) -> None:
        line = json.dumps({"event": "note", "text": text}) if style == "json" else text
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())

    return EventsOnly(EventLog(sys.stderr, style=style, colors=sys.stderr.isatty()).write, note=note)


def _for_people(report: Report, bottles: Sequence[str]) -> Display:
    if report.enabled:
        return PlainLines(_OnlyFingerprint())
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveTable(Story(steps=False), bottles)
    return PlainLines(Story(steps=True))


class _OnlyFingerprint(Story):
    """Beside `--json`, standard error tells the CA's fingerprint and nothing else."""

    def __init__(self) -> None:
        super().__init__(steps=False)
        self._told: set[str] = set()

    def tell(self, event: Event) -> list[Line]:
        found = ca_fingerprint(event)
        if not found or found in self._told:
            return []
        self._told.add(found)
        return [Line(f"{event.bottle}  CA SHA-256 fingerprint: {colons(found)}")]


def _after_signal(signum: int, after_signal: str) -> str:
    name = signal.Signals(signum).name
    what = "everything is kept as it is" if signum == signal.SIGHUP else after_signal
    return f"{name}: the current step is finished, then {what}. A second signal stops at once, which is safe."
