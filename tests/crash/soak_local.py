"""Twenty bottles at once on the local backend, everything of ours killed at random, and then nothing left.

`soak_local.py --bottles 20 --rounds 3 --seed 1` prints one JSON line a round: how long the launches and the teardown
took, how many processes were killed, and what was left (which has to be nothing). Two cores are enough.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.places import DIRECTORY
from bottle_fsm.backend.local.world import MARK, MARK_LABELS, LocalWorld

PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")


def manifest(folder: Path, bottles: int) -> Path:
    """Write a manifest of so many agents."""
    agents = {f"a{n}": {"bottle": "room", "command": ["bash"]} for n in range(bottles)}
    room = {"egress": {"guard": "builtin", "allow": ["example.org"]}, "resources": {"pids": 64}}
    path = folder / "soak.yaml"
    path.write_text(json.dumps({"version": 1, "name": "soak", "bottles": {"room": room}, "agents": agents}))
    return path


def run(env: dict[str, str], *words: str) -> tuple[int, float]:
    """Run a verb; return its exit code and its seconds."""
    began = time.perf_counter()
    done = subprocess.run([*PROGRAM, *words], env=env, capture_output=True, check=False)
    return done.returncode, time.perf_counter() - began


def ours(state: Path) -> list[proc.Known]:
    """Return every supervisor and every sandbox's first process of a state root."""
    found = [
        p.known
        for p in proc.scan(MARK)
        if Path(json.loads(p.environ[MARK_LABELS])["directory"]).is_relative_to(state / DIRECTORY)
    ]
    inits = [proc.Known.from_json(o.init) for o in LocalWorld(state / DIRECTORY).objects() if o.init]
    return found + [known for known in inits if proc.is_alive(known)]


def one_round(state: Path, env: dict[str, str], path: Path, chosen: random.Random) -> dict[str, Any]:
    """Launch all, kill at random, destroy all, and look at what is left."""
    code, launched = run(env, "apply", str(path), "--backend", "local", "--yes")
    alive = ours(state)
    victims = [known for known in alive if chosen.random() < 1 / 2]
    for known in victims:
        os.kill(known.pid, signal.SIGKILL)
    ended, destroyed = run(env, "destroy", "--all", "--yes")
    left = [str(known.pid) for known in ours(state)] + [p.name for p in (state / DIRECTORY).glob("*")]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    return {
        "apply": code,
        "apply s": round(launched, 1),
        "processes": len(alive),
        "killed": len(victims),
        "destroy": ended,
        "destroy s": round(destroyed, 1),
        "left": left + mounts,
    }


def main(argv: list[str]) -> int:
    """Run the rounds; return 1 when one went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bottles", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    chosen, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory(prefix="bottle-soak-") as top:
        state = Path(top) / "state"
        env = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(state)}
        path = manifest(Path(top), options.bottles)
        for _ in range(options.rounds):
            done = {"bottles": options.bottles, "seed": options.seed, **one_round(state, env, path, chosen)}
            wrong += bool(done["left"] or done["apply"] or done["destroy"])
            print(json.dumps(done), flush=True)  # noqa: T201 - the results are this program's output
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
