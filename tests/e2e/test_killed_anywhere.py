"""A sample of the randomised kills on the real engine; `make crash` runs a hundred of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from lean_image import LEAN

pytestmark = [pytest.mark.engine]
CRASH = Path(__file__).resolve().parents[1] / "crash" / "crash_engine.py"
KILLS = 2


def test_ends_as_the_undisturbed_run(engine: Engine, images: dict[str, ImageRef]) -> None:
    command = [sys.executable, str(CRASH), "--kills", str(KILLS), "--seed", "11", "--image", LEAN]
    environ = {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_")} | {"DOCKER_HOST": engine.url}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=550)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case for case in cases if case["wrong"]] == [], done.stderr
    assert len(cases) == KILLS, done.stderr
    assert done.returncode == 0, done.stderr
