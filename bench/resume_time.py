"""How long a resume takes, at each state: `resume_time.py [RUNS]`, on the real engine, through the command line.

A launch is killed right after it committed a state (and, for an open intent, right after the state's first effect), and
resumed in a new process. Of the resume's wall time, process start-up and end (until its first event, and from the one
that says ready) and the settle time (what the journal says it waited) are shown apart. The rest is compared with what
undisturbed launches of the same run took from that state to the event that says ready. Of several runs the fastest
counts, on both sides: a shared machine only ever adds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from figures import conditions, save
from launch_overhead import MANIFEST

ALLOWANCE: Final = 0.10
STATES: Final = ("validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted")
PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")
BOTTLE: Final = "overhead/one"


class Place:
    """A state directory and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.manifest = folder / "m.yaml"
        self.manifest.write_text(MANIFEST)
        self.env = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(folder / "state")}

    def run(self, *words: str, failpoint: str = "") -> None:
        """Run a verb."""
        env = {**self.env, "BOTTLE_FSM_FAILPOINT": failpoint}
        done = subprocess.run([*PROGRAM, *words], env=env, capture_output=True, check=False)
        if done.returncode not in ((-9,) if failpoint else (0,)):
            raise RuntimeError(f"{words}: {done.returncode}\n{done.stderr.decode()}")

    def trace(self) -> list[str]:
        """Launch once more and return the points that were passed, in order."""
        path = self.manifest.with_name("trace")
        self.env["BOTTLE_FSM_FAILPOINT_TRACE"] = str(path)
        self.run("apply", str(self.manifest), "--backend", "docker")
        del self.env["BOTTLE_FSM_FAILPOINT_TRACE"]
        self.run("destroy", BOTTLE, "--yes")
        return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the newest launch."""
        words = ["audit", "export", "--format", "jsonl"]
        done = subprocess.run([*PROGRAM, *words], env=self.env, capture_output=True, check=True)
        found = [line["body"] for line in map(json.loads, done.stdout.splitlines()) if "body" in line]
        launch = [event["launch"] for event in found if event["launch"]][-1]
        return [event for event in found if event["launch"] == launch]


def instant(event: dict[str, Any]) -> float:
    """Return an event's time in seconds."""
    return datetime.fromisoformat(event["time"]).timestamp()


def undisturbed(place: Place) -> dict[str, float]:
    """Return the seconds from each state, and from the declaration, to the end of an undisturbed launch."""
    place.run("apply", str(place.manifest), "--backend", "docker")
    events = place.events()
    place.run("destroy", BOTTLE, "--yes")
    done = {e["dest"]: instant(e) for e in events if e["kind"] in {"declared", "done"}}
    return {state: done["provisioned"] - at for state, at in done.items()}


def resumed(place: Place, failpoint: str) -> dict[str, float]:
    """Kill a launch at a point, resume it, and return the parts of the resume's time."""
    place.run("apply", str(place.manifest), "--backend", "docker", failpoint=failpoint)
    began = time.time()
    place.run("resume", BOTTLE)
    wall = time.time() - began
    events = [e for e in place.events() if instant(e) >= began]
    settle = sum(e["evidence"]["waited"] for e in events if "settled" in e["evidence"])
    ready = next(instant(e) for e in events if e["kind"] == "done" and e["dest"] == "provisioned")
    start_up = wall - (ready - instant(events[0]))
    rest = wall - start_up - settle
    place.run("destroy", BOTTLE, "--yes")
    return {"wall": wall, "start-up": start_up, "settle": settle, "rest": rest}


def main(runs: int) -> int:
    """Kill at every state and save the figures; 1 when one took longer than allowed."""
    head = conditions()
    rows, over = [], 0
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".bench-") as top:
        place = Place(Path(top))
        whole = [undisturbed(place) for _ in range(runs)]
        trace = place.trace()
        full = min(times["declared"] for times in whole)
        for number, state in enumerate(STATES, 1):
            remaining = min(times[state] for times in whole)
            for kind, failpoint in _kills(trace, number):
                fastest = min((resumed(place, failpoint) for _ in range(runs)), key=lambda found: found["rest"])
                row = {name: round(seconds, 3) for name, seconds in fastest.items()}
                allowed = remaining + ALLOWANCE * full
                over += row["rest"] > allowed
                limits = {"remaining": round(remaining, 3), "allowed": round(allowed, 3)}
                rows.append({"state": state, "killed": kind, **row, **limits})
    save("resume-time", {"conditions": head, "runs": runs, "full launch s": round(full, 3), "rows": rows})
    return int(over > 0)


def _kills(trace: list[str], number: int) -> list[tuple[str, str]]:
    """Return where to kill: after the commit of the state of this number, and after the next effect, if one comes."""
    # By each point's own count: how often the engine is asked in a wait differs from run to run.
    done = [at for at, line in enumerate(trace) if line.startswith("done.after")]
    kills = [("state committed", f"done.after#{number}=kill")]
    acted = [line.split()[0] for line in trace[done[number - 1] : done[number]] if line.startswith("step.acted")]
    return kills + [("an effect not committed", f"{point}=kill") for point in acted[:1]]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2))
