"""What durability costs a launch on the real engine: `launch_overhead.py [RUNS]`.

Two figures from one run. *Share*: the time that a durable launch spends inside journal, lock and looks at the world,
measured around those calls, of the whole launch. *Ratio*: durable launches against launches by the peer in `bare.py`,
which makes the same engine calls; both alternate, and medians are compared.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bare import Forgetful, Spent, bare
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply, destroy
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from figures import conditions, median, save

LIMIT: Final = 0.05
MANIFEST: Final = """\
version: 1
name: overhead
bottles: {dev: {image: "bottle-agent:latest", egress: {guard: builtin, allow: [example.org]}}}
agents: {one: {bottle: dev, prompt: Say hello., git: {user: {name: Ada, email: ada@example.org}}}}
"""


class Place:
    """A state root and a manifest."""

    def __init__(self, folder: Path) -> None:
        self.root = open_root(folder / "state")
        (folder / "m.yaml").write_text(MANIFEST)
        self.host = Host(self.root.root_id, self.root.path, folder, {**os.environ, "HOME": str(folder)})
        loaded = load_manifest(folder / "m.yaml")
        self.spec: BottleSpec = specs(loaded.manifest, loaded.path)[0]

    def launch(self, journal: Journal) -> float:
        """Launch, and take away again; return the seconds of the launch alone."""
        made = Runtime(self.root, journal, load_definition(), self.host, make_backend, Silent(yes=True), Stop())
        began = time.perf_counter()
        apply(made, Wish(self.spec, "docker"))
        took = time.perf_counter() - began
        destroy(made, self.spec.bottle, discard=True)
        return took


def main(runs: int) -> int:
    """Alternate both, and save the figures."""
    head = conditions()
    durable, plain, shares = [], [], []
    parts: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".bench-") as top:
        place = Place(Path(top))
        with contextlib.closing(Journal(place.root.path, place.root.root_id)) as journal:
            place.launch(journal)
            spent = Spent()
            for _ in range(runs):
                with spent.watching():
                    durable.append(_measured(place, journal, spent, parts))
                shares.append(sum(parts[-1].values()) / durable[-1])
                with bare():
                    plain.append(place.launch(Forgetful()))
    share = median(shares)
    save(
        "launch-overhead",
        {
            "conditions": head,
            "runs": runs,
            "durable launch s": round(median(durable), 3),
            "bare launch s": round(median(plain), 3),
            "inside, ms": {name: round(median([p.get(name, 0.0) for p in parts]) * 1000, 1) for name in parts[0]},
            "share": round(share, 4),
            "ratio": round(median(durable) / median(plain), 4),
            "limit": LIMIT,
        },
    )
    return int(share > LIMIT)


def _measured(place: Place, journal: Journal, spent: Spent, parts: list[dict[str, float]]) -> float:
    """Launch with the watch on; the teardown's share is not counted."""
    made = Runtime(place.root, journal, load_definition(), place.host, make_backend, Silent(yes=True), Stop())
    began = time.perf_counter()
    apply(made, Wish(place.spec, "docker"))
    took = time.perf_counter() - began
    parts.append(dict(spent.seconds))
    destroy(made, place.spec.bottle, discard=True)
    return took


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    sys.exit(main(int(arguments[0]) if arguments else 7))
