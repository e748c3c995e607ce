"""From what a sidecar wrote to a line of the record: one shape, whichever guard it was. Pure.

What comes from a sidecar is read as untrusted: types, lengths and the query are checked again, bottle and launch are
the launcher's own word. Not its duty: which lines are new (`resume`), and where they are kept (`record`).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bottle_fsm.egress.jsonlines import DECIDED, DECISION, DROPPED, MAX_ITEMS, cut
from bottle_fsm.egress.rule import MAX_PORT, is_reserved
from bottle_fsm.model import Json
from bottle_fsm.naming import ROLE_GUARD, ROLE_INTERCEPTOR
from bottle_fsm.traffic import pipelock_lines

SOURCES: Final = (ROLE_INTERCEPTOR, ROLE_GUARD)
"""The roles whose lines are kept; of lines of the same moment the first one's stand first."""
GAP: Final = "gap"
"""The event that stands where lines were lost before they could be collected."""
STARTUP: Final = "startup"
COUNTED: Final = ("allow", "deny", "error")
MAX_LINE: Final = 64 * 1024
_MAX_COUNT: Final = (1 << 63) - 1
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_OWN: Final = frozenset({"time", "source", "event", "bottle", "launch"})
_LOG: Final = "log"


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose lines they are: the role that wrote them, its bottle and launch."""

    source: str
    bottle: str
    launch: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """One line of a sidecar.

    Attributes:
        line: what the record keeps, without its end; None when it keeps nothing of it.
        moment: when it was written, in seconds since 1970; None when it does not say.
        first: it is what a sidecar writes first. event: it is an event of the sidecar, not a warning of its libraries.
    """

    line: bytes | None = None
    moment: float | None = None
    first: bool = False
    event: bool = False


def parse(raw: bytes, origin: Origin) -> Parsed:
    """Read one line; what is no event of a sidecar gives nothing to keep."""
    try:
        value = json.loads(raw) if len(raw) <= MAX_LINE else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        return Parsed()
    event = value["event"]
    time = _time(value.get("time"))
    moment = time.timestamp() if time else None
    fields = _fields(value, event, origin.source)
    line = None
    if fields is not None:
        line = encode({"time": _text_of(time), "event": event, **fields}, origin)
    return Parsed(line, moment, first=event == STARTUP, event=event != _LOG)


def gap(origin: Origin, *, after: str, before: str) -> bytes:
    """Return the line that stands for lost lines; between which two times they were written, if that is known."""
    return encode({"time": before or after, "event": GAP, "after": after}, origin)


def encode(value: Json, origin: Origin) -> bytes:
    """Return a line of the record: plain ASCII, its first fields always in the same order."""
    head = {"time": value["time"], "source": origin.source, "event": value["event"]}
    return json.dumps({**head, "bottle": origin.bottle, "launch": origin.launch, **value}, ensure_ascii=True).encode()


def counted(line: bytes) -> str:
    """Return how a line of the record counts: allow, deny or error; empty when it is no decision about a request.

    The interceptor's decisions count; the guard's lines are about the same requests. The launcher's own probes ask for
    names of ours, and do not count.
    """
    value = read(line)
    if value.get("source") != ROLE_INTERCEPTOR or value.get("event") != "decision":
        return ""
    action, host = value.get("action"), str(value.get("host"))
    return "" if action not in COUNTED or is_reserved(host.lower().removesuffix(".")) else str(action)


def read(line: bytes) -> Json:
    """Return a line of the record; nothing when it was damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _fields(value: Json, event: str, source: str) -> Json | None:
    """Return everything of a line but its head; None when nothing of it is kept."""
    if event == DROPPED:
        return {"lines": _whole(value.get("lines"))}
    if source == ROLE_GUARD and not DECISION.keys() <= value.keys():
        mapped = pipelock_lines.mapped(value, event)
        return None if mapped is None else _decision({**DECISION, **mapped})
    return _decision({**DECISION, **value}) if event in DECIDED else None


def _decision(value: Json) -> Json:
    fields = {name: _as(default, value[name]) for name, default in DECISION.items()}
    fields["path"] = fields["path"].split("?", 1)[0].split("#", 1)[0]
    fields["port"] = fields["port"] if fields["port"] <= MAX_PORT else 0
    more = {n: v for n, v in value.items() if n not in fields and n not in _OWN and _NAME.fullmatch(n) and _simple(v)}
    return fields | {name: cut(more[name]) for name in list(more)[:MAX_ITEMS]}


def _as(default: Any, value: Any) -> Any:
    """Return a value of the type that a field has; what it is when a sidecar gives another."""
    if isinstance(default, str):
        return cut(value) if isinstance(value, str) else ""
    if isinstance(default, list):
        return [cut(item) for item in value[:MAX_ITEMS] if isinstance(item, str)] if isinstance(value, list) else []
    if isinstance(default, float):
        return value if _number(value) and 0 <= value <= _MAX_COUNT else 0.0
    return _whole(value)


def _simple(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str | bool) or _number(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else 0


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _text_of(time: datetime | None) -> str:
    if time is None:
        return ""
    return time.isoformat(timespec="microseconds" if time.microsecond else "seconds").replace("+00:00", "Z")
