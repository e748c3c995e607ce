"""Examine this machine: every area is looked at at the same time, each for a bounded time, and judged.

Not its duty: what is looked at, and what it means; each area has its modules.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from bottle_fsm.doctor import sandbox, sidecars, state
from bottle_fsm.doctor.bounded import SECONDS, Look, begin, bounded
from bottle_fsm.doctor.engine import AREA as ENGINE
from bottle_fsm.doctor.engine import EngineFacts, engine_rows
from bottle_fsm.doctor.engine_look import address_of, hidden, look_at_engine
from bottle_fsm.doctor.rows import Row, failed
from bottle_fsm.doctor.sandbox import sandbox_rows
from bottle_fsm.doctor.sandbox_look import look_at_sandboxes
from bottle_fsm.doctor.sidecars import guard_rows, look_at_sidecars, sidecar_rows
from bottle_fsm.doctor.state import DirectoryFacts, clock_rows, directory_rows, journal_rows, stale_rows
from bottle_fsm.doctor.state_look import (
    OpenJournal,
    look_at_clocks,
    look_at_directory,
    look_at_journal,
    look_for_stale,
)
from bottle_fsm.doctor.verdict import Auto, judge
from bottle_fsm.model import Host

T = TypeVar("T")

_LOOKS: Final = 4
"""At most so many looks of an area come one after the other."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All rows, in the order in which people read them; backends: those that can run, auto: see `Verdict`."""

    rows: tuple[Row, ...]
    backends: tuple[str, ...]
    auto: str


def examine(
    directory: Path, environ: Mapping[str, str], open_journal: OpenJournal, *, platform: str = sys.platform
) -> Examination:
    """Look at everything. Nothing is changed, nothing is raised, and nothing is waited for without end.

    Args:
        directory: the state directory.
        environ: the launcher's environment.
        open_journal: opens the journal of a state directory for reading.
        platform: as `sys.platform`.
    """
    home = bounded(Path.home).value or Path("/")
    there = bounded(lambda: look_at_directory(directory))
    facts = there.value or DirectoryFacts(path=str(directory), problem=f"{directory}: {there.problem}")
    host = Host(root_id=facts.root_id, state_dir=directory, home=home, environ=environ)

    engine = begin(lambda: look_at_engine(environ))
    boxes = begin(lambda: look_at_sandboxes(environ, platform=platform))
    parts = begin(lambda: look_at_sidecars(environ, home))
    unfit = begin(lambda: _check_local(environ, platform))
    journal = begin(lambda: look_at_journal(directory, open_journal))
    deadline = time.monotonic() + _LOOKS * SECONDS

    def rest(wait: Callable[[float], Look[T]]) -> Look[T]:
        return wait(max(0.0, deadline - time.monotonic()))

    refusal = unfit(SECONDS)
    seen = rest(engine)
    met, pipelock = seen.value or (EngineFacts(problem=seen.problem, slow=True), {})
    chosen = begin(lambda: _choose(host, met, refusal.problem))  # an engine that hangs is not asked a second time
    stale = begin(lambda: look_for_stale(host, open_journal, engine=not (met.problem or met.unknown)))
    engine_part = _rows(ENGINE, seen, lambda found: engine_rows(found[0]))
    local_part = _rows(sandbox.AREA, rest(boxes), sandbox_rows)
    if platform.startswith("linux"):
        local_part += _rows(sidecars.AREA, rest(parts), sidecar_rows)
    recorded = rest(journal)
    state_part = [*directory_rows(facts), *_rows(state.AREA, recorded, journal_rows)]
    others = [*clock_rows(look_at_clocks(), recorded.value or state.JournalFacts())]
    others += _rows(state.AREA, rest(stale), stale_rows)
    choice = chosen(SECONDS)
    answer = choice.value or Auto(problem=choice.problem, hint=choice.hint)
    verdict = judge(engine=engine_part, local=local_part, state=state_part, auto=answer, unfit=refusal.problem)
    rows = (*engine_part, *local_part, *guard_rows(pipelock), *state_part, *others, *verdict.rows)
    address = address_of(environ)
    shown = tuple(replace(r, found=hidden(r.found, address), remedy=hidden(r.remedy, address)) for r in rows)
    return Examination(shown, verdict.backends, verdict.auto)


def _rows(area: str, look: Look[T], judged: Callable[[T], Iterable[Row]]) -> list[Row]:
    """Return an area's rows; a look that failed as a whole is a row, too."""
    if look.value is None:
        remedy = "Run this again; if it stays, report it with what stands here"
        return [failed(area, "look", f"cannot be looked at: {look.problem}", remedy)]
    return list(judged(look.value))


def _choose(host: Host, engine: EngineFacts, unfit: str) -> Auto:
    """Choose as a launch does; `unfit` is why the local backend refuses this machine."""
    from bottle_fsm.backend.choose import choose  # noqa: PLC0415 - start-up budget
    from bottle_fsm.backend.docker.client import CALL_TIMEOUT  # noqa: PLC0415 - start-up budget

    if engine.slow:  # a launch is more patient than we are, and then goes on as without an engine
        problem = f"the engine does not answer, after {CALL_TIMEOUT:g} s of waiting for it"
        return Auto(problem=f"{problem}, and no sandbox can run here ({unfit})") if unfit else Auto("local", problem)
    choice = choose("auto", host)
    return Auto(choice.name, choice.reason)


def _check_local(environ: Mapping[str, str], platform: str) -> None:
    """Let the local backend itself say whether it takes this machine: its word counts, whatever we found."""
    from bottle_fsm.backend.local.fitness import check_machine  # noqa: PLC0415 - start-up budget

    check_machine(platform=platform, environ=environ)
