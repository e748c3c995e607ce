"""Which backends can run bottles here, and which one `backend: auto` takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bottle_fsm.doctor.rows import Row, failed, has_failed, ok, warning

AREA: Final = "backends"
_ABOVE: Final = "Do what stands above"


@dataclass(frozen=True, slots=True)
class Auto:
    """What choosing for `backend: auto` gave: a backend and why, or the problem and what to do."""

    backend: str = ""
    reason: str = ""
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can run here.

    Attributes:
        rows: the last rows. backends: names of the backends that can run a bottle, the better one first.
        auto: what `backend: auto` would take, empty if nothing.
    """

    rows: tuple[Row, ...]
    backends: tuple[str, ...]
    auto: str


def judge(*, engine: Sequence[Row], local: Sequence[Row], state: Sequence[Row], auto: Auto, unfit: str) -> Verdict:
    """Return the verdict on the rows of each area.

    Args:
        engine: what the docker backend needs.
        local: what the local backend needs.
        state: what both need.
        auto: see `Auto`.
        unfit: why the local backend itself refuses this machine, empty if it does not.
    """
    blocked = _missing(state)
    rows, able = [], []
    for name, needs, refusal in (("docker", engine, ""), ("local", local, unfit)):
        missing = _missing(needs) or refusal
        if missing:
            rows.append(failed(AREA, name, f"cannot run: {missing}", _ABOVE))
        elif blocked:
            rows.append(failed(AREA, name, f"could run, but the state directory cannot be used: {blocked}", _ABOVE))
        else:
            rows.append(ok(AREA, name, "can run"))
            able.append(name)
    return Verdict((*rows, _auto(auto, able)), tuple(able), auto.backend)


def _missing(rows: Sequence[Row]) -> str:
    """Name the rows that failed, so that they are found above."""
    names = ", ".join(dict.fromkeys(f"{row.area}/{row.name}" for row in rows if has_failed([row])))
    return f"see {names}" if names else ""


def _auto(auto: Auto, able: Sequence[str]) -> Row:
    name = "auto"
    if not auto.backend:
        remedy = auto.hint or "Name a backend: `bottle-fsm apply --backend docker` or `--backend local`"
        return (warning if able else failed)(AREA, name, f"would take none: {auto.problem}", remedy)
    found = f"would take {auto.backend}: {auto.reason}"
    if auto.backend in able:
        return ok(AREA, name, found)
    remedy = f"Name the one that can run: `bottle-fsm apply --backend {able[0]}`" if able else _ABOVE
    return (warning if able else failed)(AREA, name, f"{found}; but it cannot run", remedy)
