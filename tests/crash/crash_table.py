"""From raw results to docs/crash-matrix.md: `crash_table.py RESULTS_DIR` prints the page."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_WHERE: Final = {"fake": "simulated engine", "engine": "real Docker engine", "local": "local backend"}
_HEAD: Final = """\
# The crash matrix

Every row is a point of a launcher's way at which it was killed with SIGKILL, and what was done next. *Residue* counts
cases after which an object of the launch was left that should not be, *stuck* those that ended neither in a whole
bottle nor in nothing; *wrong* counts both and everything else that `tests/crash/crash_judge.py` looks at: objects made
twice instead of adopted, a broken chain, an object without an intent, a second run that changed something.

This page is made from the raw results beside it in `docs/crash-results/` (one JSON line a case; the first line says
commit, seed and machine), and a test makes it again and compares. `make crash` runs everything anew.
"""


@dataclass
class Row:
    """What became of all cases of one kind of point."""

    cases: int = 0
    wrong: int = 0
    residue: int = 0
    stuck: int = 0
    seconds: float = 0.0
    then: set[str] = field(default_factory=set)

    def add(self, case: dict[str, Any]) -> None:
        """Count one case."""
        text = " ".join(case["wrong"])
        self.cases += 1
        self.wrong += bool(case["wrong"])
        self.residue += "left" in text or "residue" in text
        self.stuck += "stuck" in text
        self.seconds += case["seconds"]
        self.then.add(case["then"] if not case["second"] else f"{case['then']}, killed again")


def page(folder: Path) -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(_section(path) for path in sorted(folder.glob("*.jsonl")))])


def _section(path: Path) -> str:
    head, *cases = [json.loads(line) for line in path.read_text().splitlines()]
    total = _sum(cases)
    what = _WHERE[head["where"]]
    lines = [
        f"## On the {what}: {head['kind']}",
        "",
        (
            f"{total.cases} {'randomised kills' if head['random'] else 'kills, every point'}, "
            f"{total.residue} with residue, {total.stuck} stuck, {total.wrong} wrong."
        ),
        "",
        f"Commit {head['commit']}, seed {head['seed']}, {head['machine']}. `{head['command']}`",
        "",
        "| scenario | point | cases | then | residue | stuck | wrong | mean time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for case in cases:
        rows[case["scenario"], case["point"].partition("#")[0]].append(case)
    for (scenario, point), found in sorted(rows.items()):
        row = _sum(found)
        then = ", ".join(sorted(row.then))
        lines.append(
            f"| {scenario} | `{point}` | {row.cases} | {then} | {row.residue} | {row.stuck} | {row.wrong} "
            f"| {row.seconds / row.cases:.2f} s |"
        )
    return "\n".join(lines) + "\n"


def _sum(cases: Iterable[dict[str, Any]]) -> Row:
    row = Row()
    for case in cases:
        row.add(case)
    return row


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1])))
