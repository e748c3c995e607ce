"""Looks at a state directory, its journal, the clocks, and what `gc` would list. Makes and removes nothing.

Not its duty: what the facts mean (`state`).
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bottle_fsm.doctor.bounded import bounded
from bottle_fsm.doctor.nearest import nearest_existing
from bottle_fsm.doctor.state import ClockFacts, DirectoryFacts, JournalFacts, StaleFacts, file_system
from bottle_fsm.model import Host
from bottle_fsm.smallfile import UnreadableError, read_small_file
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.lock import boot_id
from bottle_fsm.store.record import TORN_DOWN
from bottle_fsm.store.root import this_machine

OpenJournal = Callable[[Path], AbstractContextManager[Journal | None]]
"""Opens the journal of a state directory for reading; None where nothing was ever recorded."""
_MOUNTS: Final = Path("/proc/self/mounts")
_LARGEST: Final = 65536


def look_at_directory(path: Path) -> DirectoryFacts:
    """Return the facts of a state directory."""
    place = nearest_existing(path)
    found = place.path.stat() if place.path == path and path.exists() else None  # a link may lead nowhere
    facts = DirectoryFacts(
        path=str(path),
        exists=found is not None,
        directory=place.path.is_dir(),
        owner=found.st_uid if found else os.getuid(),
        uid=os.getuid(),
        mode=stat.S_IMODE(found.st_mode) if found else 0o700,
        writable=place.writable,
        parent=str(place.path),
        kind=file_system(str(place.path.resolve()), _mounts()),
        free=place.free,
    )
    return _with_identity(facts, path)


def look_at_journal(path: Path, open_journal: OpenJournal) -> JournalFacts:
    """Return the facts of its journal."""
    seen = bounded(lambda: _journal(path, open_journal))
    return seen.value or JournalFacts(exists=True, problem=seen.problem, hint=seen.hint, late=seen.late)


def look_at_clocks() -> ClockFacts:
    """Return what this machine's clocks show."""
    boot = boot_id()
    return ClockFacts(datetime.now(UTC), "" if boot == "unknown" else boot, time.monotonic())


def look_for_stale(host: Host, open_journal: OpenJournal, *, engine: bool) -> StaleFacts:
    """Return what `gc` would list; `engine` says whether today's engine answers, else it is not asked."""
    seen = bounded(lambda: _stale(host, open_journal, engine=engine))
    return seen.value or StaleFacts(problem=seen.problem)


def _with_identity(facts: DirectoryFacts, path: Path) -> DirectoryFacts:
    if not facts.exists or not facts.directory:
        return facts
    identity = path / "root.json"
    try:
        value = json.loads(read_small_file(identity, _LARGEST))
        root_id, made_on = str(value["root"]), str(value["machine"])
    except UnreadableError as error:
        if error.reason == "does not exist":
            return facts
        return replace(facts, problem=f"{identity} {error.reason}")
    except (ValueError, KeyError, TypeError):
        return replace(facts, problem=f"{identity} is damaged")
    return replace(facts, root_id=root_id, made_here=made_on == this_machine())


def _journal(path: Path, open_journal: OpenJournal) -> JournalFacts:
    with open_journal(path) as journal:
        if journal is None:
            return JournalFacts()
        records = journal.records()
        newest = max(records, key=lambda record: record.sequence, default=None)
        last = deque(journal.events(bottle=newest.bottle), maxlen=1) if newest else ()
        event = last[0] if last else None
        return JournalFacts(
            exists=True,
            bottles=len(records),
            live=tuple(record.bottle for record in records if record.state != TORN_DOWN),
            newest=event.time if event else "",
            boot=event.boot if event else "",
            monotonic=event.monotonic if event else 0.0,
        )


def _stale(host: Host, open_journal: OpenJournal, *, engine: bool) -> StaleFacts:
    from bottle_fsm.backend.choose import NAMES, make_backend  # noqa: PLC0415 - start-up budget
    from bottle_fsm.runner.collect import find  # noqa: PLC0415 - start-up budget

    names = [name for name in NAMES if engine or name != "docker"]
    unseen = [] if engine else ["today's docker engine was not looked at"]
    with open_journal(host.state_dir) as journal:
        found = find(journal, host, make_backend, today=names)
    texts = [(f"{s.bottle} {s.resource.kind} {s.resource.name} ({s.cause})", s.undecided) for s in found.strays]
    return StaleFacts(
        strays=tuple(text for text, undecided in texts if not undecided),
        undecided=tuple(text for text, undecided in texts if undecided),
        unreachable=tuple(str(error) for error in found.unreachable),
        unseen=(*unseen, *(note.partition(":")[0] for note in found.notes)),
    )


def _mounts() -> str:
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
