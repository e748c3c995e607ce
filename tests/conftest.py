"""What every test may ask for. Engine fixtures bring the engine up themselves."""

from __future__ import annotations

pytest_plugins = ["crash_place", "engine_fixtures", "runner_bench"]
