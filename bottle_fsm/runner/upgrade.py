"""Upgrade: a launch that was made under another version of the machine. Going on needs a declaration, destroying none.

`migrates_from` in `states/bottle.yaml` lists the versions whose launches go on under today's machine. Any launch can be
torn down: by the definition that it was made under, which is an event of the journal.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bottle_fsm.errors import DecisionNeededError, DefinitionError
from bottle_fsm.machine.definition import Definition, parse
from bottle_fsm.model import Json
from bottle_fsm.runner.registry import NAMES
from bottle_fsm.runner.session import Session
from bottle_fsm.store import kinds
from bottle_fsm.store.record import BottleRecord


def go_on(owned: Session) -> None:
    """Take a launch over to today's machine, if it was made under another version; record that.

    Raises:
        DecisionNeededError: today's machine does not declare that it takes this version over; nothing was changed.
    """
    record, today = owned.record, owned.runtime.definition
    if record.machine == today.version:
        return
    if not takes_over(today, record):
        raise DecisionNeededError(
            f"this launch was made under machine version {record.machine or '(none)'}, this bottle-fsm has "
            f"{today.version} and does not take it over",
            place=owned.bottle,
            hint=f"Go on with the bottle-fsm that made it, or take it away with `bottle-fsm destroy {owned.bottle}`.",
        )
    owned.runtime.journal.ensure_machine(today.version, today.raw)
    owned.commit(
        kinds.MIGRATED,
        machine=today.version,
        source=record.state,
        dest=record.state,
        cause=f"machine version {record.machine} goes on as {today.version}",
        evidence={"from": record.machine},
    )


def takes_over(today: Definition, record: BottleRecord) -> bool:
    """Tell whether a launch may go on under today's machine."""
    return record.machine == today.version or (record.machine in today.migrates_from and _knows(today, record))


@contextmanager
def going_down(owned: Session) -> Iterator[None]:
    """Let the body tear the launch down by the machine that it was made under.

    Raises:
        DecisionNeededError: neither that machine nor today's knows how.
    """
    runtime = owned.runtime
    if owned.record.machine == runtime.definition.version:
        yield
        return
    owned.runtime = replace(runtime, definition=_for_teardown(owned))
    try:
        yield
    finally:
        owned.runtime = runtime


def _for_teardown(owned: Session) -> Definition:
    """Return the recorded definition; today's where that one cannot be run, as long as it knows the launch's states."""
    record, today = owned.record, owned.runtime.definition
    raw = _recorded(owned)
    if raw:
        try:
            return parse(_without_unknown_effects(raw), place=f"machine version {record.machine}", names=NAMES)
        except DefinitionError:
            pass  # an undo of it has another name today: today's table, then, which undoes all that it finds
    if _knows(today, record):
        return today
    raise DecisionNeededError(
        f"nobody here knows how to undo machine version {record.machine} in the state {record.state}",
        place=owned.bottle,
        hint="Destroy it with the bottle-fsm that made it.",
    )


def _recorded(owned: Session) -> Json:
    events = owned.runtime.journal.events(kind=kinds.MACHINE)
    found: Json = next((e.evidence["definition"] for e in events if e.machine == owned.record.machine), {})
    return found


def _without_unknown_effects(raw: Json) -> Json:
    """Return a definition in which what only the way up needs may be unknown: a teardown never takes it."""
    value = copy.deepcopy(raw)
    for transition in value.get("transitions", ()):
        if transition.get("dest") != _final(value) and transition.get("effect", "") not in NAMES:
            transition.pop("effect", None)
    return value


def _final(value: Json) -> str:
    return next((str(s["name"]) for s in value.get("states", ()) if s.get("final")), "")


def _knows(definition: Definition, record: BottleRecord) -> bool:
    triggers = {t.trigger for t in definition.transitions}
    return record.state in definition.order and set(record.attempted) <= triggers
