"""The interceptor's decisions among what it wrote. Not its duty: what a decision holds; the interceptor says."""

from __future__ import annotations

import json
from typing import Any


def decisions(data: bytes) -> bytes:
    """Return the lines that are decisions, as they are."""
    return b"".join(line + b"\n" for line in data.splitlines() if _is_decision(line))


def _is_decision(line: bytes) -> bool:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("event") == "decision"
