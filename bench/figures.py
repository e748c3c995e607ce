"""What all benchmarks share: conditions, medians, and the raw results that docs/benchmarks.md is made from."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REPO: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = REPO / "docs" / "bench-results"


def conditions() -> dict[str, str]:
    """Return what a figure depends on: commit, machine, Python, load, day."""
    commit = ["git", "-C", str(REPO), "rev-parse", "--short=12", "HEAD"]
    return {
        "commit": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "day": datetime.now(UTC).date().isoformat(),
    }


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Return lowest and highest value, in milliseconds."""
    return f"{min(values) * 1000:.1f}–{max(values) * 1000:.1f} ms"


def save(name: str, result: dict[str, Any]) -> None:
    """Write a benchmark's raw result, and print it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
