"""Was it as if nothing had happened? Judges a world and a journal after a killed launcher was followed up."""

from __future__ import annotations

from collections import Counter

from bottle_fsm.backend.fake.world import FakeObject
from bottle_fsm.errors import BottleError
from bottle_fsm.model import Event
from bottle_fsm.naming import LABEL_LAUNCH, LABEL_ROLE
from bottle_fsm.store import kinds
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.record import fold
from crash_cases import BOTTLE, CANARY, ROLES, Place


def judge(place: Place, last: str, finished: dict[str, str]) -> list[str]:
    """Return what is wrong after `last` ran to its end; `finished` are role → id of what was complete before."""
    runtime = place.runtime()
    try:
        journal = runtime.journal
        objects = place.world.objects()
        record = journal.record(BOTTLE)
        events = list(journal.events(bottle=BOTTLE))
        wrong = _chain(journal)
        if fold(events).get(BOTTLE) != record:
            wrong.append("fold(journal) differs from status")
        if record is None or not record.launch:
            return wrong + ([f"{len(objects)} objects and no launch"] if objects else [])
        if record.outcome == "torn_down":
            wrong += [f"torn down, but {len(objects)} objects are left"] if objects else []
            wrong += _backed(events)
        elif record.outcome == "ready":
            wrong += _complete(objects, finished) if last != "destroy" else ["destroyed, but ready"]
        else:
            wrong.append(f"stuck: {record.outcome} in {record.state}")
        wrong += _intended(objects, events) + _quiet(place)
        return wrong
    finally:
        runtime.journal.close()


def strays(place: Place) -> list[str]:
    """Return objects without an intent, right after a launcher died: nobody has had time to tidy up."""
    runtime = place.runtime()
    try:
        return _intended(place.world.objects(), list(runtime.journal.events(bottle=BOTTLE)))
    finally:
        runtime.journal.close()


def finished_objects(place: Place) -> dict[str, str]:
    """Return role → id of what a follow-up has to adopt: objects whose making and starting was committed."""
    runtime = place.runtime()
    try:
        record = runtime.journal.record(BOTTLE)
        kept = record is not None and not record.down
        recorded = {r["id"] for r in record.resources} if record and kept else set()
    finally:
        runtime.journal.close()
    return {
        o.labels[LABEL_ROLE]: o.id
        for o in place.world.objects()
        if o.id in recorded and o.state in {"running", "present"}
    }


def _chain(journal: Journal) -> list[str]:
    try:
        journal.verify()
    except BottleError as error:
        return [f"chain: {error}"]
    return []


def _complete(objects: list[FakeObject], finished: dict[str, str]) -> list[str]:
    roles = Counter(o.labels[LABEL_ROLE] for o in objects)
    wrong = [f"{roles[role]} × {role}" for role in ROLES if roles[role] != 1]
    ids = {o.labels[LABEL_ROLE]: o.id for o in objects}
    wrong += [f"{role} was made again, not adopted" for role, found in finished.items() if ids.get(role) != found]
    wrong += [f"{o.labels[LABEL_ROLE]} is {o.state}" for o in objects if o.state not in {"running", "present"}]
    agent = [o for o in objects if o.labels[LABEL_ROLE] == "agent"]
    inside = ids.get("net-inside")
    wrong += ["the agent is on another network"] if agent and agent[0].networks != [inside] else []
    return wrong


def _intended(objects: list[FakeObject], events: list[Event]) -> list[str]:
    """No object without an intent of its launch."""
    intents = {(e.launch, e.evidence["role"]) for e in events if e.kind == kinds.STEP_INTENT}
    strays = [o for o in objects if (o.labels[LABEL_LAUNCH], o.labels[LABEL_ROLE]) not in intents]
    return [f"{o.labels[LABEL_ROLE]} has no intent" for o in strays]


def _backed(events: list[Event]) -> list[str]:
    """`torn_down` after a plan is backed by two empty looks that span the settle time."""
    launch = events[-1].launch
    mine = [e for e in events if e.launch == launch]
    if not any("plan" in e.evidence for e in mine):
        return []
    looks = [e.evidence for e in mine if e.kind == kinds.OBSERVED and "looks" in e.evidence]
    good = looks and looks[-1]["looks"][1] - looks[-1]["looks"][0] >= looks[-1]["settle"]
    return [] if good else ["torn_down without two looks"]


def _quiet(place: Place) -> list[str]:
    files = [p for p in place.state.rglob("*") if p.is_file()]
    return [f"the canary is in {p.name}" for p in files if CANARY.encode() in p.read_bytes()]
