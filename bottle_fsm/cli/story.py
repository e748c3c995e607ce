"""Story: what a committed event says to a person. Pure: events in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bottle_fsm.model import Event, Json
from bottle_fsm.safetext import safe, safe_block
from bottle_fsm.store import kinds
from bottle_fsm.store.findings import PLAN, SELFTEST, TRUST_MATRIX, UNTESTED, ca_fingerprint, rows

Tone = Literal["plain", "good", "bad", "quiet"]
_MENDING: Final = frozenset({"repair", "revise"})
_TABLES: Final = {TRUST_MATRIX: ("trust", "tool"), SELFTEST: ("self-test", "probe")}
_HIDDEN: Final = frozenset({"ok", "remedy"})
_VERDICTS: Final[Mapping[bool | None, tuple[str, Tone]]] = {
    True: ("ok", "good"),
    False: ("FAILED", "bad"),
    None: ("n/a", "quiet"),
}
_ORDER: Final = ("expected", "got", "detail", "version", "ms")
"""Columns after the first; the journal keeps no order of its own."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line for a person, already harmless for a terminal."""

    text: str
    tone: Tone = "plain"


class Story:
    """Tells the events of one process run; remembers what was told already.

    `steps` tells every sub-step; without it only those of repairs, whose causes matter.
    """

    def __init__(self, *, steps: bool) -> None:
        self._steps = steps
        self._mending: set[str] = set()
        self._fingerprints: dict[str, str] = {}
        self._results: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
        self._tellers: Mapping[str, Callable[[Event], list[Line]]] = {
            kinds.DECLARED: self._declared,
            kinds.DONE: self._moved,
            kinds.SKIPPED: self._moved,
            kinds.STEP_DONE: self._step,
            kinds.STEP_SKIPPED: self._step_skipped,
            kinds.FAILED: self._failed,
            kinds.KEPT: self._kept,
            kinds.MIGRATED: self._migrated,
            kinds.OBSERVED: self._observed,
            kinds.UNDO_DONE: self._undone,
            kinds.UNDO_FAILED: self._undo_failed,
        }

    def tell(self, event: Event) -> list[Line]:
        """Return the lines that an event is worth; often none."""
        teller = self._tellers.get(event.kind)
        lines = teller(event) if teller else []
        name = safe(event.bottle)
        return [Line(f"{name}  {line.text}", line.tone) for line in (*lines, *self._findings(event))]

    # -- moves -------------------------------------------------------------------------------------------------------

    def _declared(self, event: Event) -> list[Line]:
        backend = event.evidence.get("backend", "")
        return [Line(f"launch {safe(event.launch)} begins, backend {safe(backend)}")]

    def _moved(self, event: Event) -> list[Line]:
        if event.trigger in _MENDING:
            self._mending.add(event.bottle)
            return [Line(f"{event.trigger}: {safe(event.cause)}")]
        if event.kind == kinds.SKIPPED:
            return [Line(f"{safe(event.dest):<12} skipped: {safe(event.cause)}", "quiet")]
        return [Line(f"{safe(event.dest):<12} {seconds(event.duration):>8}", "good")]

    def _failed(self, event: Event) -> list[Line]:
        wait = event.evidence.get("retry_in")
        again = f"\n    attempt {event.attempt + 1} follows in {float(wait):.1f} s" if wait else ""
        where = f"{safe(event.dest)} attempt {event.attempt} failed"
        cause = event.cause.removeprefix(f"{event.bottle} {event.dest}: ").removeprefix(f"{event.bottle}: ")
        return [Line(f"{where}: {safe_block(cause)}{again}", "bad")]

    def _kept(self, event: Event) -> list[Line]:
        return [Line(f"kept as it is, in the state {safe(event.source)}")]

    def _migrated(self, event: Event) -> list[Line]:
        return [Line(safe(event.cause), "quiet")]

    def _observed(self, event: Event) -> list[Line]:
        if "settled" in event.evidence:
            return [Line(f"settled what an earlier run left open: {safe(event.cause)}", "quiet")]
        untested = event.evidence.get(UNTESTED)
        if isinstance(untested, dict):
            return [Line(f"not tested: {safe(name)}: {safe(why)}", "quiet") for name, why in untested.items()]
        return [Line(safe(event.cause), "quiet")] if "looks" in event.evidence else []

    # -- steps -------------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> list[Line]:
        if not self._steps and event.bottle not in self._mending:
            return []
        name, cause = safe(event.evidence.get("step", "")), safe(event.cause)
        return [Line(f"    {name} ({cause}) {seconds(event.duration)}", "quiet")]

    def _step_skipped(self, event: Event) -> list[Line]:
        if not self._steps:
            return []
        return [Line(f"    {safe(event.evidence.get('step', ''))} skipped: {safe(event.cause)}", "quiet")]

    def _undone(self, event: Event) -> list[Line]:
        return [Line(f"    undone: {safe(event.trigger)} {seconds(event.duration)}", "quiet")]

    def _undo_failed(self, event: Event) -> list[Line]:
        return [Line(f"undoing {safe(event.trigger)} failed: {safe_block(event.cause)}", "bad")]

    @staticmethod
    def _planned(plan: Any) -> list[Line]:
        """Tell of a plan what nobody should have to ask for: who guards, and what to know before saying yes."""
        if not isinstance(plan, dict):
            return []
        guard = Line(f"    guard {safe(plan['guard'])}: {safe(plan['guard_reason'])}", "quiet")
        return [guard, *(Line(f"    warning: {safe(text)}", "bad") for text in plan["warnings"])]

    # -- findings ----------------------------------------------------------------------------------------------------

    def _findings(self, event: Event) -> list[Line]:
        lines = self._planned(event.evidence.get(PLAN))
        found = ca_fingerprint(event)
        if found and self._fingerprints.get(event.bottle) != found:
            self._fingerprints[event.bottle] = found
            lines.append(Line(f"CA SHA-256 fingerprint: {colons(found)}"))
        for name, (title, first) in _TABLES.items():
            known = rows(event, name)
            results = [(r.get(first), r.get("ok")) for r in known]
            if known and self._results.get((event.bottle, name)) != results:
                self._results[event.bottle, name] = results
                lines += table(title, first, known)
        return lines


def colons(fingerprint: str) -> str:
    """Return hex digits as people compare them: upper case, in pairs."""
    digits = safe(fingerprint).upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def seconds(duration: float) -> str:
    """Return a duration in words."""
    return f"{duration:.2f} s"


def table(title: str, first: str, found: Sequence[Json]) -> list[Line]:
    """Return a line for each row of findings, in columns; a row that is not ok says so and how to mend it.

    A row whose `ok` is neither true nor false proved nothing, and is no failure.
    """
    present = {column for row in found for column in row if _cell(row, column)} - _HIDDEN - {first}
    columns = [first, *(c for c in _ORDER if c in present), *sorted(present.difference(_ORDER))]
    widths = {c: max(len(c), *(len(_cell(r, c)) for r in found)) for c in columns}
    head = "  ".join(f"{safe(c):<{widths[c]}}" for c in columns)
    lines = [Line(f"    {title:<9}          {head}".rstrip(), "quiet")]
    for row in found:
        good = row.get("ok")
        word, style = _VERDICTS[good if isinstance(good, bool) else None]
        cells = "  ".join(f"{_cell(row, c):<{widths[c]}}" for c in columns)
        remedy = f"  {safe(row['remedy'])}" if not good and row.get("remedy") else ""
        lines.append(Line(f"    {'':<9}  {word:<6}  {cells}{remedy}".rstrip(), style))
    return lines


def _cell(row: Json, column: str) -> str:
    value: Any = row.get(column, "")
    text = safe("" if value is None else value)
    return f"{text} ms" if column == "ms" and text else text
