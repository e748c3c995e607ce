"""A warm launch on the local backend against its floor: `local_launch.py [RUNS]`.

The floor is what every such launch has to do at least: start mitmdump with a new CA, and run update-ca-certificates
once, as the agent's trust store is built (from the beginning, in a sandbox that may write /etc). Launches and floors
alternate; a launch is everything from the command line to `provisioned`, trust gate and egress self-test included.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local.bottle import LocalBottle
from bottle_fsm.backend.local.places import DIRECTORY, data_directory
from bottle_fsm.backend.local.venv import ensure_venv
from figures import conditions, median, save

LIMIT: Final = 1.5
PORT: Final = 18931
PROGRAM: Final = (sys.executable, "-c", "from bottle_fsm.cli.main import main; main()")
MANIFEST: Final = "manifests/hello.yaml"
BOTTLE: Final = "hello/greeter"
REPO: Final = Path(__file__).resolve().parent.parent


def launched(env: dict[str, str]) -> float:
    """Return the seconds of a launch."""
    began = time.perf_counter()
    command = [*PROGRAM, "apply", str(REPO / MANIFEST), "--backend", "local"]
    subprocess.run(command, env=env, capture_output=True, check=True)
    return time.perf_counter() - began


def parts(env: dict[str, str]) -> dict[str, float]:
    """Return the seconds of each state of the newest launch, and of the two steps that prove trust."""
    words = ["audit", "export", "--format", "jsonl"]
    done = subprocess.run([*PROGRAM, *words], env=env, capture_output=True, check=True)
    events = [line["body"] for line in map(json.loads, done.stdout.splitlines()) if "body" in line]
    mine = [event for event in events if event["launch"] == events[-1]["launch"]]
    states = {e["dest"]: e["duration"] for e in mine if e["kind"] == "done"}
    steps = {e["evidence"]["step"]: e["duration"] for e in reversed(mine) if e["kind"] == "step_done"}
    return {**states, **{name: steps[name] for name in ("trust_store", "trust_gate")}}


def mitmdump(venv: Path, folder: Path) -> float:
    """Return the seconds until mitmdump has made its CA and listens."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    command = [str(venv / "bin" / "python"), "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()"]
    options = ["--set", f"confdir={folder}", "--listen-host", "127.0.0.1", "-p", str(PORT)]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not ((folder / "mitmproxy-ca-cert.pem").exists() and _listens()):
            time.sleep(0.01)
        took = time.perf_counter() - began
        process.kill()
    return took


def _listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def update(state: Path) -> float:
    """Return the seconds of update-ca-certificates in the running bottle's own trust store."""
    for path in (state / DIRECTORY).glob("*/object.json"):
        if json.loads(path.read_bytes())["labels"]["bottle-fsm.role"] == "agent":
            bottle = LocalBottle(path.parent, name="agent")
            began = time.perf_counter()
            bottle.exec(["update-ca-certificates", "--fresh"], user="root")
            return time.perf_counter() - began
    raise RuntimeError("no agent")


def main(runs: int) -> int:
    """Alternate and save the figures; 1 when the limit is passed."""
    head = conditions()
    ours, proxies, stores, inside = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="bottle-bench-") as top:
        state = Path(top) / "state"
        env = {**os.environ, "BOTTLE_FSM_STATE_DIR": str(state)}
        venv = ensure_venv(data_directory(os.environ, Path.home()), os.environ)
        for run in range(runs + 1):
            took = launched(env)
            states = parts(env)
            proxy, store = mitmdump(venv, Path(top) / "confdir"), update(state)
            subprocess.run([*PROGRAM, "destroy", BOTTLE, "--yes"], env=env, capture_output=True, check=True)
            if run:  # the first one warms the caches of all three
                ours.append(took)
                proxies.append(proxy)
                stores.append(store)
                inside.append(states)
    ratio = round(median(ours) / (median(proxies) + median(stores)), 3)
    save(
        "local-launch",
        {
            "conditions": head,
            "runs": runs,
            "launch s": round(median(ours), 3),
            "mitmdump s": round(median(proxies), 3),
            "update-ca-certificates s": round(median(stores), 3),
            "parts s": {name: round(median([found[name] for found in inside]), 3) for name in inside[0]},
            "ratio": ratio,
            "limit": LIMIT,
        },
    )
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
