"""Randomised kills on real backends: the real command line, killed at a point drawn by a seed, then followed up.

`crash_engine.py --backend docker --kills 100 --seed 7` prints one JSON line a case. A case launches a bottle with
everything that is provisioned, is killed with SIGKILL at a random point of its launch or of its teardown (between two
journal entries, after a call to the engine, while a command runs inside, in the middle of a copy), is resumed or
destroyed, and is judged by what the world lists, by the journal, by what the command line says, and by what is inside
the bottle. On Docker it needs `DOCKER_HOST`, or an engine where Docker looks for one; `local` needs bubblewrap.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

from bottle_fsm import failpoints
from bottle_fsm.backend.docker.client import connect
from bottle_fsm.backend.local.places import DIRECTORY
from bottle_fsm.backend.local.world import LocalWorld
from bottle_fsm.naming import LABEL_LAUNCH, LABEL_ROLE, LABEL_ROOT
from crash_sweep import KILLED, Case

PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")
ROLES: Final = ["agent", "guard", "interceptor", "net-between", "net-inside", "net-outside"]
MANIFEST: Final = """\
version: 1
name: crash
bottles:
  dev:
    image: IMAGE
    egress: {guard: builtin, allow: [example.org]}
    ssh: [{host: git.example.org, user: git, identity_file: ./key, known_host_key: "HOST_KEY"}]
agents:
  one:
    bottle: dev
    prompt: Say hello.
    skills: [./skill]
    git: {user: {name: Ada, email: ada@example.org}}
    workspace: {source: ./work, mode: copy}
"""
BOTTLE: Final = "crash/one"
NOT_REACHED: Final = "ended before the point"
HALFWAY: Final = ("engine.called", "exec.started", "copy.sending")
"""Points in the middle of a sub-step: half of all kills fall on one of them."""
LOOK_INSIDE: Final = r"""find . /workspace -type f ! -path './.npm/*' ! -name ssh.json | sort | while read -r file; do
  printf '%s ' "$file"; sed -E 's/[0-9]+(\.[0-9]+){3}/ADDRESS/g' "$file" | sha256sum
done
grep -c BEGIN /etc/ssl/certs/ca-certificates.crt
ls /usr/local/share/ca-certificates
ssh-add -l | cut -d ' ' -f 1,4
ps -C ssh-agent -o comm=
git config --global --list | sort
"""
"""Prints what must be as after an undisturbed run; addresses differ from one state directory to the next."""


class Place:
    """A state directory of its own, and the command line in it, on a Docker engine."""

    backend: ClassVar[str] = "docker"
    roles: ClassVar[list[str]] = ROLES

    def __init__(self, folder: Path, image: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.manifest = folder / "manifest.yaml"
        for name, files in {"skill": ("SKILL.md", "more.txt", "big.bin"), "work": ("a.txt", "b/c.txt")}.items():
            for file in files:
                path = folder / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"content of a file\n" * (20_000 if file == "big.bin" else 3))
        for key in ("key", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        host_key = " ".join((folder / "host.pub").read_text().split()[:2])
        self.manifest.write_text(MANIFEST.replace("HOST_KEY", host_key).replace("IMAGE", image))

    def run(self, *arguments: str, failpoint: str = "", trace: str = "") -> int:
        """Run one verb; return its exit code, or minus the signal that ended it."""
        environ = {
            **os.environ,
            "BOTTLE_FSM_STATE_DIR": str(self.state),
            failpoints.VARIABLE: failpoint,
            failpoints.TRACE: trace,
        }
        done = subprocess.run([*PROGRAM, *arguments], env=environ, capture_output=True, check=False, timeout=600)
        self.said = done.stderr.decode(errors="replace")
        return done.returncode

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says of the bottle."""
        environ = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(self.state)}
        done = subprocess.run([*PROGRAM, "status", "--json"], env=environ, capture_output=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return next((line for line in lines if line.get("bottle") == BOTTLE), {})

    def inside(self) -> str:
        """Return what is in the bottle, as far as two runs must agree."""
        environ = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(self.state)}
        command = [*PROGRAM, "exec", BOTTLE, "--", "sh", "-c", f"cd; {LOOK_INSIDE}"]
        done = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60)
        return f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"

    def objects(self) -> dict[str, list[str]]:
        """Return role → ids of everything on the engine that carries this state root's label."""
        path = self.state / "root.json"
        if not path.exists():
            return {}
        wanted = {"label": f"{LABEL_ROOT}={json.loads(path.read_text())['root']}"}
        found: dict[str, list[str]] = {}
        with connect(os.environ).guarded("list") as api:
            listed = [(o["Labels"], o["Id"]) for o in api.containers(all=True, filters=wanted)]
            listed += [(o["Labels"], o["Id"]) for o in api.networks(filters=wanted)]
            volumes = api.volumes(filters=wanted)["Volumes"] or []
            listed += [(o["Labels"], o["Name"]) for o in volumes]
        for labels, object_id in listed:
            assert labels[LABEL_LAUNCH]
            found.setdefault(labels[LABEL_ROLE], []).append(object_id)
        return found

    def running(self) -> set[str]:
        """Return the ids of what runs."""
        with connect(os.environ).guarded("list") as api:
            return {o["Id"] for o in api.containers()}

    @property
    def apply(self) -> tuple[str, ...]:
        """Return the words that launch."""
        return ("apply", str(self.manifest), "--backend", self.backend, "--json")


class LocalPlace(Place):
    """The same on this machine's sandboxes."""

    backend: ClassVar[str] = "local"
    roles: ClassVar[list[str]] = [role for role in ROLES if role != "net-outside"]

    def objects(self) -> dict[str, list[str]]:
        """Return role → ids of every directory and process of this state root."""
        found: dict[str, list[str]] = {}
        for item in LocalWorld(self.state / DIRECTORY).objects():
            found.setdefault(item.labels[LABEL_ROLE], []).append(item.id)
        return found

    def running(self) -> set[str]:
        """Return the ids of what runs."""
        return {item.id for item in LocalWorld(self.state / DIRECTORY).objects() if item.state == "running"}


def points(place: Place, *verb: str) -> list[str]:
    """Return the points that an undisturbed run of a verb passes."""
    trace = place.folder / "trace"
    trace.unlink(missing_ok=True)
    assert place.run(*verb, trace=str(trace)) == 0, place.said
    return [line.split(" ", 1)[1].strip() for line in trace.read_text().splitlines()]


def draw(chosen: random.Random, passed: dict[str, list[str]]) -> Case:
    """Draw where a run is killed: every second time in the middle of a sub-step."""
    scenario = chosen.choices(("launch", "teardown"), (4, 1))[0]
    halfway = chosen.random() < 1 / 2
    every = list(enumerate(passed[scenario], 1))
    numbers = [n for n, point in every if point.startswith(HALFWAY) == halfway] or [n for n, _ in every]
    number = chosen.choice(numbers)
    return Case(scenario, passed[scenario][number - 1], number, "kill", chosen.choice(("resume", "destroy")))


def run_case(place: Place, case: Case, undisturbed: str) -> Case:
    """Run one case; the bottle is gone afterwards."""
    started = time.monotonic()
    verb = place.apply if case.scenario == "launch" else ("destroy", BOTTLE, "--yes", "--json")
    if case.scenario == "teardown" and place.run(*place.apply) != 0:
        case.wrong.append(f"could not be prepared: {place.said}")
    # By the point's own count: how often the engine is asked in a wait differs from run to run.
    code = code_at_kill = place.run(*verb, failpoint=f"{case.point.split()[0]}=kill")
    if code != KILLED and not (code == 0 and case.point.startswith(HALFWAY)):
        case.wrong.append(f"was not killed, ended with {code}: {place.said}")
    kept = recorded(place)
    code = place.run("resume", BOTTLE, "--json") if case.then == "resume" else place.run("destroy", BOTTLE, "--yes")
    # A launcher that died before it declared anything leaves a name that nobody knows: that is an error of usage.
    if code and place.status():
        case.wrong.append(f"{case.then} ended with {code}: {place.said}")
    case.wrong += judge(place, kept, undisturbed)
    place.run("destroy", BOTTLE, "--yes")
    left = place.objects()
    case.wrong += [f"residue: {left}"] if left else []
    if place.state.exists() and place.run("audit", "verify"):
        case.wrong.append(f"audit verify: {place.said}")
    case.seconds = round(time.monotonic() - started, 2)
    case.outcome = "wrong" if case.wrong else "as uninterrupted" if code_at_kill == KILLED else NOT_REACHED
    return case


def recorded(place: Place) -> dict[str, str]:
    """Return role → id of running containers that the journal has: a resume adopts them."""
    status = place.status()
    if not status or status.get("outcome") == "leftover":
        return {}
    running = place.running()
    return {r["role"]: r["id"] for r in status["resources"] if r["id"] in running}


def judge(place: Place, kept: dict[str, str], undisturbed: str) -> list[str]:
    """Say what is not as after an undisturbed run."""
    status, found = place.status(), place.objects()
    if not status or status["outcome"] == "torn_down":
        return [f"torn down, but left: {found}"] if found else []
    if status["outcome"] != "ready":
        return [f"stuck: {status['outcome']} in {status['state']}"]
    wrong = [] if sorted(found) == place.roles else [f"objects: {found}"]
    now = place.inside()
    wrong += [] if now == undisturbed else [f"inside is {now!r}, was {undisturbed!r}"]
    wrong += [f"{role}: {len(ids)}" for role, ids in found.items() if len(ids) != 1]
    return wrong + [f"{role} was made again" for role, kept_id in kept.items() if found.get(role) != [kept_id]]


def main(argv: list[str]) -> int:
    """Draw the cases and run them; return 1 when one went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=("docker", "local"), default="docker")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--image", default="bottle-agent:latest")
    options = parser.parse_args(argv)
    mine, shares = (int(part) for part in options.share.split("/"))
    chosen = random.Random(f"{options.seed} {mine}")
    top = Path(tempfile.mkdtemp(prefix="bottle-crash-"))
    failed = 0
    try:
        place = (LocalPlace if options.backend == "local" else Place)(top, options.image)
        passed = {"launch": points(place, *place.apply)}
        undisturbed = place.inside()
        passed["teardown"] = points(place, "destroy", BOTTLE, "--yes", "--json")
        done = missed = 0
        while done < options.kills // shares and missed <= options.kills:
            case = draw(chosen, passed)
            shutil.rmtree(place.state, ignore_errors=True)
            ended = run_case(place, case, undisturbed)
            failed += bool(ended.wrong)
            done += ended.outcome != NOT_REACHED
            missed += ended.outcome == NOT_REACHED
            if ended.outcome != NOT_REACHED:
                print(json.dumps(asdict(ended)), flush=True)  # noqa: T201 - the results are this program's output
    finally:
        shutil.rmtree(top, ignore_errors=True)
    if missed > options.kills:
        print(f"{missed} runs ended before the point at which they were to be killed", file=sys.stderr)  # noqa: T201
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
