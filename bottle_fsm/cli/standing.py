"""Standing: how a recorded bottle stands now, for people and for programs. From the record alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bottle_fsm.cli.app import SCHEMA
from bottle_fsm.cli.story import colons
from bottle_fsm.model import Json
from bottle_fsm.safetext import safe, safe_block
from bottle_fsm.store.findings import CA
from bottle_fsm.store.lock import boot_id, is_held
from bottle_fsm.store.record import FAILED, INTERRUPTED, LAUNCHING, TORN_DOWN, BottleRecord
from bottle_fsm.traffic.cursor import Counts, counts_of

UNSEEN: Final = "not observed since reboot"
_HEAD: Final = ("BOTTLE", "OUTCOME", "STATE", "BACKEND", "LAUNCH", "ALLOWED", "DENIED", "OBSERVED AT")


@dataclass(frozen=True, slots=True)
class Standing:
    """One bottle's standing.

    Attributes:
        record: what the journal says. outcome: what that means now. held: a process works on it at this moment.
        rebooted: the machine was started again since the last event. drift: what a look found; None without one.
        egress: how many requests were allowed and denied, as collected.
        uncollected: why a look could not collect what was decided since; empty if it could, or without a look.
    """

    record: BottleRecord
    outcome: str
    held: bool
    rebooted: bool
    drift: tuple[str, ...] | None = None
    egress: Counts = field(default_factory=Counts)
    uncollected: str = ""

    def to_json(self) -> Json:
        """Return the standing as `status --json` prints it."""
        record = self.record
        value: Json = {
            "schema": SCHEMA,
            "bottle": record.bottle,
            "state": record.state,
            "launch": record.launch,
            "backend": record.backend,
            "outcome": self.outcome,
            "resources": list(record.resources),
            "ca_sha256": ca_of(record),
            "in_progress": self.held,
            "since": record.since,
            "observed_at": record.observed_at,
            "observed_since_boot": not self.rebooted,
            "egress": self.egress.to_json(),
            "manifest_path": record.manifest_path,
            "spec": record.spec,
            "epoch": record.epoch,
            "sequence": record.sequence,
            "skipped": dict(record.skipped),
            "error": record.error,
            "cause": record.cause,
        }
        return value if self.drift is None else {**value, "drift": list(self.drift)}


def standing_of(directory: Path, record: BottleRecord) -> Standing:
    """Return how a record stands. A launch that is open although nobody works on it was interrupted."""
    held = is_held(directory, record.bottle)
    outcome = record.outcome
    if outcome == LAUNCHING and not held:
        outcome = INTERRUPTED
    elif outcome in {FAILED, INTERRUPTED} and held:
        outcome = LAUNCHING
    rebooted = record.state != TORN_DOWN and record.boot != boot_id()
    return Standing(record, outcome, held, rebooted, egress=counts_of(directory, record.slug, record.launch))


def ca_of(record: BottleRecord) -> str:
    """Return the recorded fingerprint of the bottle's CA; empty when there is none."""
    return str(record.facts.get(CA) or record.evidence.get(CA) or "")


def table(standings: Sequence[Standing]) -> str:
    """Return a line for each bottle, in columns, and below what needs attention."""
    rows = [_HEAD, *(_row(standing) for standing in standings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for standing in standings:
        name = safe(standing.record.bottle)
        lines += [f"{name}: {line}" for line in _attention(standing)]
    return "\n".join(lines)


def details(standing: Standing) -> str:
    """Return everything about one bottle that people ask for."""
    record = standing.record
    fields = {
        "outcome": standing.outcome,
        "state": f"{record.state}, since {record.since}",
        "launch": record.launch,
        "backend": record.backend,
        "manifest": record.manifest_path,
        "observed at": _observed(standing),
        "requests": _requests(standing.egress),
        "CA SHA-256": colons(ca_of(record)),
    }
    lines = [safe(record.bottle), *(f"  {k + ':':<13}{safe(v)}" for k, v in fields.items() if v)]
    lines += [f"  skipped:     {safe(state)}: {safe(why)}" for state, why in record.skipped.items()]
    lines += [f"  {safe(r['kind']):<12} {safe(r['role']):<12} {safe(r['name'])}" for r in record.resources]
    return "\n".join([*lines, *(f"  {line}" for line in _attention(standing))])


def _row(standing: Standing) -> tuple[str, ...]:
    record = standing.record
    counts = standing.egress
    asked = (str(counts.allow), str(counts.deny)) if counts.as_of else ("-", "-")
    values = (record.bottle, standing.outcome, record.state, record.backend, record.launch, *asked, _observed(standing))
    return tuple(safe(value) for value in values)


def _requests(counts: Counts) -> str:
    if not counts.as_of:
        return ""
    return f"{counts.allow} allowed, {counts.deny} denied, {counts.error} undecided or not sent, as of {counts.as_of}"


def _observed(standing: Standing) -> str:
    seen = standing.record.observed_at or "never"
    return f"{seen} ({UNSEEN})" if standing.rebooted else seen


def _attention(standing: Standing) -> list[str]:
    lines = []
    if standing.held:
        lines.append("a process works on it now")
    if standing.record.cause and standing.record.state != TORN_DOWN:
        lines.append(safe_block(standing.record.cause))
    if standing.uncollected:
        lines.append(f"the newest decisions cannot be collected: {safe(standing.uncollected)}")
    if standing.drift is not None:
        lines += [f"drift: {safe(cause)}" for cause in standing.drift] or ["no drift: everything is as recorded"]
    return lines
