"""Findings that events carry as evidence, by the names under which backends and provisioners record them. Pure."""

from __future__ import annotations

from typing import Final

from bottle_fsm.model import Event, Json

CA: Final = "ca_sha256"
"""The fingerprint of the bottle's CA: 64 lower-case hex digits, as evidence or as a fact."""
TRUST_MATRIX: Final = "trust_matrix"
"""Rows of the trust gate: `tool`, `version`, `ok`, `detail`, `remedy`."""
SELFTEST: Final = "selftest"
"""Rows of the egress self-test: `probe`, `target`, `expected`, `got`, `ok`, `ms`."""
UNTESTED: Final = "untested"
"""Parts of a proof that were left out, each with its reason."""
PLAN: Final = "plan"
"""The plan, with the transition that resolved it."""


def ca_fingerprint(event: Event) -> str:
    """Return the CA's fingerprint that an event records; empty when it records none."""
    facts = event.evidence.get("facts")
    found = event.evidence.get(CA) or (facts.get(CA) if isinstance(facts, dict) else "")
    return found if isinstance(found, str) else ""


def rows(event: Event, name: str) -> list[Json]:
    """Return the rows of a table that an event records; empty when it records none."""
    found = event.evidence.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
