"""A sample of the randomised kills on the local backend; `make crash` runs a hundred of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CRASH = Path(__file__).resolve().parents[1] / "crash" / "crash_engine.py"
KILLS = 2


def test_ends_as_the_undisturbed_run() -> None:
    command = [sys.executable, str(CRASH), "--backend", "local", "--kills", str(KILLS), "--seed", "21"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=550)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case for case in cases if case["wrong"]] == [], done.stderr
    assert len(cases) == KILLS, done.stderr
    assert done.returncode == 0, done.stderr
