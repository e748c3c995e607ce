"""Collects: reads what a launch's sidecars wrote and appends what is new to its record. In bounded time, always.

Nothing here changes the world, and a collection that fails fails nothing else: its result says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.errors import BottleError, NoLogError
from bottle_fsm.model import Launch
from bottle_fsm.traffic.lines import SOURCES, Origin
from bottle_fsm.traffic.paths import paths_of
from bottle_fsm.traffic.record import opened
from bottle_fsm.traffic.resume import Entry, Window, complete_lines, found_in, new_entries

Read = Callable[[str, float], bytes]
"""Gives the log of a role as far as it was written since a time, 0 for all of it; raises NoLogError without one."""
SECONDS: Final = 10.0
"""How long one collection may take."""


@dataclass(frozen=True, slots=True)
class Collected:
    """How a collection ended: how many lines are new, and why it did not end well; empty if it did."""

    lines: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Whose logs are collected, and into which state root.

    Attributes:
        state_dir: the state root. launch: whose sidecars. read: reads a log. roles: of which sidecars.
        whole: read each log from its beginning, the last time before it goes.
    """

    state_dir: Path
    launch: Launch
    read: Read
    roles: Sequence[str] = SOURCES
    whole: bool = False


def collect(of: Sidecars, *, seconds: float = SECONDS) -> Collected:
    """Bring the record of a launch up to now; never raises, and gives up after so many seconds.

    What goes on in the background then is as safe as a collector that is killed.
    """
    ended: list[Collected] = []

    def run() -> None:
        try:
            ended.append(Collected(_collect(of, seconds)))
        except BottleError as error:
            ended.append(Collected(problem=error.problem))
        except Exception as error:  # noqa: BLE001 - a record that cannot be kept must not keep a sidecar from going
            ended.append(Collected(problem=f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name="collect", daemon=True)
    thread.start()
    thread.join(seconds)
    return ended[0] if ended else Collected(problem=f"no answer within {seconds:g} s")


def _collect(of: Sidecars, seconds: float) -> int:
    paths = paths_of(of.state_dir, of.launch.slug, of.launch.launch)
    if not paths.folder.exists() and not any(_log(of, role, 0.0) for role in of.roles):
        return 0  # no sidecar ever wrote anything, so nothing is made here either
    with opened(paths, seconds=seconds / 2) as record:
        found = {role: _new(of, role, record.window(role)) for role in _all_of(of.roles, record.untold())}
        entries = {role: new for role, new in found.items() if new is not None}
        if not entries:
            return 0
        lines = record.add(entries)
        record.close({role: of.whole and role in of.roles for role in entries})
        return lines


def _all_of(roles: Sequence[str], untold: Iterable[str]) -> list[str]:
    """Return the roles to read: those of whose lines some stand in the record untold are always among them."""
    return [role for role in SOURCES if role in {*roles, *untold}]


def _new(of: Sidecars, role: str, window: Window) -> list[Entry] | None:
    """Return what is new in a log; None when there is none.

    Raises:
        BackendError: it cannot be read. Then nothing of the other is taken either.
    """
    since = 0.0 if of.whole else window.since
    log = _log(of, role, since)
    if log is None:
        return None
    raw = complete_lines(log)
    if since and found_in(window, raw) is None:  # another sidecar's log, or a clock that was set back
        raw = complete_lines(_log(of, role, 0.0) or b"")
    return new_entries(window, raw, Origin(role, of.launch.bottle, of.launch.launch))


def _log(of: Sidecars, role: str, since: float) -> bytes | None:
    try:
        return of.read(role, since)
    except NoLogError:
        return None
