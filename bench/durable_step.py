"""One durable step (intent, an effect that does nothing, done) against four bare SQLite commits on the same disk.

The floor: a table of one row a commit, as long as our events are, WAL, synchronous=FULL, nothing else. Blocks of both
alternate, each pair gives a ratio, and the median of the ratios counts: whatever else the machine does meets both.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bottle_fsm.backend.choose import make_backend
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime, session
from bottle_fsm.runner.steps import RunnerSteps
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from figures import conditions, median, save, spread

BLOCKS: Final = 200
STEPS: Final = 25
FLOOR_COMMITS: Final = 4
LIMIT: Final = 1.0
MANIFEST: Final = "version: 1\nname: b\nbottles: {d: {egress: {allow: [example.org]}}}\nagents: {a: {bottle: d}}\n"


def runtime(folder: Path) -> Runtime:
    """Return a state root of its own in a folder, with a launched bottle on the simulated engine."""
    root = open_root(folder / "state")
    (folder / "m.yaml").write_text(MANIFEST)
    host = Host(root.root_id, root.path, folder, {"HOME": str(folder)})
    journal = Journal(root.path, root.root_id)
    made = Runtime(root, journal, load_definition(), host, make_backend, Silent(yes=True), Stop())
    loaded = load_manifest(folder / "m.yaml")
    apply(made, Wish(specs(loaded.manifest, loaded.path)[0], "fake"))
    return made


def durable(made: Runtime) -> list[float]:
    """Return the seconds of each durable step."""
    took = []
    with session(made, "b/a", command="bench") as owned:
        steps = RunnerSteps(owned, made.definition.transition("provision"), source="ca_trusted", attempt=1, stop=Stop())
        for _ in range(STEPS):
            began = time.perf_counter()
            with steps.act("nothing", cause="bench"):
                pass
            took.append(time.perf_counter() - began)
    return took


def bare(connection: sqlite3.Connection, body: bytes) -> list[float]:
    """Return the seconds of each four commits."""
    took = []
    for _ in range(STEPS):
        began = time.perf_counter()
        for _ in range(FLOOR_COMMITS):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO event (body) VALUES (?)", (body,))
            connection.execute("COMMIT")
        took.append(time.perf_counter() - began)
    return took


def main() -> int:
    """Run the blocks and save the figures; the disk is the one of this repository."""
    head = conditions()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".bench-") as top:
        made = runtime(Path(top))
        body = str(list(made.journal.events())[-1].body()).encode()
        floor = sqlite3.connect(Path(top) / "floor.sqlite3", isolation_level=None)
        floor.execute("PRAGMA journal_mode = WAL")
        floor.execute("PRAGMA synchronous = FULL")
        floor.execute("CREATE TABLE event (sequence INTEGER PRIMARY KEY, body BLOB)")
        ours, theirs, ratios = [], [], []
        for _ in range(BLOCKS):
            block, floor_block = durable(made), bare(floor, body)
            ratios.append(median(block) / median(floor_block))
            ours += block
            theirs += floor_block
    ratio = round(median(ratios), 3)
    result = {
        "conditions": head,
        "steps": len(ours),
        "event bytes": len(body),
        "durable step": {"median ms": round(median(ours) * 1000, 3), "range": spread(ours)},
        "four commits": {"median ms": round(median(theirs) * 1000, 3), "range": spread(theirs)},
        "ratio": ratio,
        "limit": LIMIT,
    }
    save("durable-step", result)
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
