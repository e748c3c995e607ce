"""Many bottles on the simulated engine: `status` of up to 1,000, `resume --all` of up to 100 interrupted ones.

Both through the command line, in a process of their own; what the same command takes for no bottle is taken off, and
the time for each bottle must not grow with their number. The simulated engine is one file that is read and written
whole at every call, so its own time does grow: resumes are run once more in this process, one after the other, with
the time inside the engine measured and taken off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from bottle_fsm import failpoints
from bottle_fsm.backend.choose import make_backend
from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.backend.fake.world import FakeWorld
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply
from bottle_fsm.runner.verbs import resume as verb
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root
from figures import conditions, save

STATUS: Final = (250, 500, 1000)
RESUME: Final = (10, 30, 100)
LIMIT: Final = 1.5
"""How much more a bottle among the most may cost than a bottle among the second most."""
PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")


def manifest(folder: Path, number: int) -> Path:
    """Write a manifest of so many agents."""
    agents = "".join(f"  a{n}: {{bottle: d}}\n" for n in range(number))
    path = folder / f"m{number}.yaml"
    path.write_text(
        f"version: 1\nname: m{number}\nbottles: {{d: {{egress: {{allow: [example.org]}}}}}}\nagents:\n{agents}"
    )
    return path


def runtime(folder: Path) -> Runtime:
    """Return a state root in a folder, opened."""
    root = open_root(folder / "state")
    host = Host(root.root_id, root.path, folder, {"HOME": str(folder)})
    journal = Journal(root.path, root.root_id)
    return Runtime(root, journal, load_definition(), host, make_backend, Silent(yes=True), Stop())


def launch(folder: Path, number: int, failpoint: str = "") -> None:
    """Launch so many bottles, each killed at a failpoint if one is given."""
    root = open_root(folder / "state")
    loaded = load_manifest(manifest(folder, number))
    for spec in specs(loaded.manifest, loaded.path):
        child = os.fork()
        if child == 0:
            failpoints.arm(failpoint)
            apply(runtime(folder), Wish(spec, "fake"))
            os._exit(0)
        os.waitpid(child, 0)
        if not failpoint:
            (
                root.path / WORLD_FILE
            ).unlink()  # `status` reads the journal alone, and a small world is quick to launch in


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
        took[number] = min(timed(folder, "status", "--json") for _ in range(9))
    return took


def interrupted(folder: Path, number: int) -> Path:
    """Make a state directory with so many launches that were killed half way, and return it."""
    folder.mkdir()
    launch(folder, number, "done.after#4=kill")
    return folder


def resume(top: Path) -> dict[int, float]:
    """Return number of interrupted bottles → seconds of `resume --all`."""
    took = {}
    for number in RESUME:
        folder = interrupted(top / f"resume{number}", number)
        took[number] = timed(folder, "resume", "--all", "--yes")
    return took


def resume_alone(top: Path) -> dict[int, float]:
    """Return number of interrupted bottles → seconds of their resumes, without the simulated engine's own time."""
    took = {}
    for number in RESUME:
        folder = interrupted(top / f"alone{number}", number)
        made = runtime(folder)
        inside = [0.0]
        with mock.patch.object(FakeWorld, "_open", _watched(FakeWorld._open, inside)):  # noqa: SLF001 - measured, not used
            began = time.perf_counter()
            for record in made.journal.records():
                verb(made, record.bottle)
            took[number] = time.perf_counter() - began - inside[0]
        made.journal.close()
    return took


def _watched(opened: Any, inside: list[float]) -> Any:
    """Wrap the world's context manager: opening, the simulated call and writing count as the engine's own time."""

    @contextmanager
    def wrapped(world: FakeWorld) -> Iterator[Any]:
        began = time.perf_counter()
        with opened(world) as state:
            yield state
        inside[0] += time.perf_counter() - began

    return wrapped


def main() -> int:
    """Measure both and save the figures; 1 when one is not linear."""
    head = conditions()
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".bench-") as top:
        empty = Path(top) / "empty"
        empty.mkdir()
        floor = min(timed(empty, "status", "--json") for _ in range(9))
        found = {"status": status(Path(top)), "resume --all": resume(Path(top))}
        alone = resume_alone(Path(top))
    result: dict[str, Any] = {"conditions": head, "no bottle, s": round(floor, 3), "limit": LIMIT}
    worst = 0.0
    for name, took in found.items():
        compared = alone if name == "resume --all" else {n: s - floor for n, s in took.items()}
        each = {number: seconds / number for number, seconds in compared.items()}
        growth = each[max(each)] / each[sorted(each)[-2]]
        worst = max(worst, growth)
        result[name] = {
            "seconds": {str(n): round(s, 3) for n, s in took.items()},
            "ms each": {str(n): round(s * 1000, 2) for n, s in each.items()},
            "growth": round(growth, 3),
        }
    save("many-bottles", result)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
