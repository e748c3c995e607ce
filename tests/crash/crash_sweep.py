"""The sweep: every point of every scenario, killed, then followed up. Run as a program it writes one JSON line a case.

`crash_sweep.py --scenario launch --pairs 3 --seed 7 --share 0/2`: all single kills, and for each as many second kills,
of every case whose number is 0 modulo 2. A process without threads, so that it may fork.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crash_cases import ENDED_WELL, ENDED_WITH_ERROR, SCENARIOS, Place, Scenario
from crash_judge import finished_objects, judge, strays

KILLED = -9
MEMORY = Path("/dev/shm")
"""A process that is killed loses nothing that it wrote, on disk or not: memory is faster."""


@dataclass
class Case:
    """One line of the results."""

    scenario: str
    point: str
    number: int
    action: str
    then: str
    second: int = 0
    seconds: float = 0.0
    outcome: str = ""
    wrong: list[str] = field(default_factory=list)


def points_of(scenario: Scenario, place: Place) -> list[str]:
    """Return the points that an undisturbed run of a scenario passes, in order."""
    place.begin_with(scenario)
    trace = place.folder / "trace"
    place.forked(scenario.verb, trace=str(trace))
    return [line.split(" ", 1)[1].strip() for line in trace.read_text().splitlines()]


def run_case(scenario: Scenario, place: Place, case: Case) -> Case:
    """Run one case and judge it."""
    started = time.monotonic()
    place.begin_with(scenario)
    code = place.forked(scenario.verb, f"#{case.number}={case.action}")
    case.wrong += strays(place)
    finished = finished_objects(place)
    if case.second:
        code = place.forked(case.then, f"#{case.second}=kill")
        finished = finished_objects(place) if code == KILLED else finished
    case.wrong += _follow_up(place, case.then, finished, still_fails=scenario.still_fails)
    case.outcome = "ended before the second point" if case.second and code != KILLED else "as uninterrupted"
    case.seconds = round(time.monotonic() - started, 4)
    return case


def _follow_up(place: Place, verb: str, finished: dict[str, str], *, still_fails: bool) -> list[str]:
    """Run the follow-up to its end, and once more: two resumes equal one."""
    code = place.forked(verb)
    accepted = {ENDED_WELL, ENDED_WITH_ERROR} if still_fails else {ENDED_WELL}
    wrong = [] if code in accepted else [f"{verb} ended with {code}"]
    wrong += judge(place, verb, finished)
    before = sorted((o.id, o.state) for o in place.world.objects())
    place.forked("resume" if verb == "apply" else verb)
    after = sorted((o.id, o.state) for o in place.world.objects())
    return wrong + (["a second run changed something"] if before != after else [])


def cases(scenario: Scenario, place: Place, *, pairs: int, seed: int, quick: bool) -> Iterator[Case]:
    """Yield every single kill, the other actions, and `pairs` second kills for each, chosen by the seed.

    `quick` leaves out what differs little: each point meets one of the follow-ups, in turn, and no exception that
    nobody expects.
    """
    chosen = random.Random(f"{seed} {scenario.name}")
    points = points_of(scenario, place)
    for number, point in enumerate(points, 1):
        verbs = scenario.next_verbs
        for then in (verbs[number % len(verbs)],) if quick else verbs:
            yield Case(scenario.name, point, number, "kill", then)
        if not quick:
            yield Case(scenario.name, point, number, "crash", "resume")
        if point.startswith(("step.acted", "undo.acted")):
            yield Case(scenario.name, point, number, "raise", "resume")
        for second in chosen.sample(range(1, len(points) + 4), min(pairs, len(points))):
            yield Case(scenario.name, point, number, "kill", chosen.choice(("resume", "destroy")), second)


def main(argv: list[str]) -> int:
    """Run the sweep, print a line a case, and return 1 when one went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--only-pairs", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", default="0/1")
    options = parser.parse_args(argv)
    mine, shares = (int(part) for part in options.share.split("/"))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bottle-crash-", dir=MEMORY if MEMORY.is_dir() else None) as top:
        place = Place(Path(top) / "case")
        for name in options.scenario or sorted(SCENARIOS):
            made = cases(SCENARIOS[name], place, pairs=options.pairs, seed=options.seed, quick=options.quick)
            for index, case in enumerate(made):
                if index % shares != mine or (options.only_pairs and not case.second):
                    continue
                done = run_case(SCENARIOS[name], place, case)
                failed += bool(done.wrong)
                print(json.dumps(asdict(done)), flush=True)  # noqa: T201 - the results are this program's output
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
