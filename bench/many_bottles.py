"""Many bottles on the simulated engine: `status` of up to 1,000, `resume --all` of up to 100 interrupted ones.

Both through the command line, in a process of their own; what the same command takes for no bottle is taken off, and
the time for each bottle must not grow with their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bottle_fsm import failpoints
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from figures import conditions, median, save

STATUS: Final = (10, 100, 300, 1000)
RESUME: Final = (10, 30, 100)
LIMIT: Final = 1.5
"""How much more a bottle among the most may cost than a bottle among the fewest that are well above the noise."""
PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")


def manifest(folder: Path, number: int) -> Path:
    """Write a manifest of so many agents."""
    agents = "".join(f"  a{n}: {{bottle: d}}\n" for n in range(number))
    path = folder / f"m{number}.yaml"
    path.write_text(
        f"version: 1\nname: m{number}\nbottles: {{d: {{egress: {{allow: [example.org]}}}}}}\nagents:\n{agents}"
    )
    return path


def launch(folder: Path, number: int, failpoint: str = "") -> None:
    """Launch so many bottles, each killed at a failpoint if one is given."""
    root = open_root(folder / "state")
    host = Host(root.root_id, root.path, folder, {"HOME": str(folder)})
    loaded = load_manifest(manifest(folder, number))
    for spec in specs(loaded.manifest, loaded.path):
        child = os.fork()
        if child == 0:
            failpoints.arm(failpoint)
            journal = Journal(root.path, root.root_id)
            made = Runtime(root, journal, load_definition(), host, make_backend, Silent(yes=True), Stop())
            apply(made, Wish(spec, "fake"))
            os._exit(0)
        os.waitpid(child, 0)


def timed(folder: Path, *words: str) -> float:
    """Return the seconds of a command line."""
    env = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(folder / "state")}
    began = time.perf_counter()
    subprocess.run([*PROGRAM, *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def status(top: Path) -> dict[int, float]:
    """Return number of bottles → seconds of `status`."""
    took = {}
    for number in STATUS:
        folder = top / f"status{number}"
        folder.mkdir()
        launch(folder, number)
        took[number] = median([timed(folder, "status", "--json") for _ in range(5)])
    return took


def resume(top: Path) -> dict[int, float]:
    """Return number of interrupted bottles → seconds of `resume --all`."""
    took = {}
    for number in RESUME:
        folder = top / f"resume{number}"
        folder.mkdir()
        launch(folder, number, "done.after#4=kill")
        took[number] = timed(folder, "resume", "--all", "--yes")
    return took


def main() -> int:
    """Measure both and save the figures; 1 when one is not linear."""
    head = conditions()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".bench-") as top:
        empty = Path(top) / "empty"
        empty.mkdir()
        floor = median([timed(empty, "status", "--json") for _ in range(5)])
        found = {"status": status(Path(top)), "resume --all": resume(Path(top))}
    result: dict[str, object] = {"conditions": head, "no bottle, s": round(floor, 3), "limit": LIMIT}
    worst = 0.0
    for verb, took in found.items():
        each = {number: (seconds - floor) / number for number, seconds in took.items()}
        growth = each[max(each)] / each[sorted(each)[1]]
        worst = max(worst, growth)
        result[verb] = {
            "seconds": {str(n): round(s, 3) for n, s in took.items()},
            "ms each": {str(n): round(s * 1000, 2) for n, s in each.items()},
            "growth": round(growth, 3),
        }
    save("many-bottles", result)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
