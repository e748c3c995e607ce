from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bottle_fsm.backend.local.venv import venv_path
from bottle_fsm.doctor.rows import Level
from bottle_fsm.doctor.sidecars import NEEDED, SidecarFacts, guard_rows, look_at_sidecars, sidecar_rows

NEW = SidecarFacts(path="/d/sidecars/x", uv="/bin/uv", parent="/d", free=NEEDED)


def test_says_whether_the_environment_is_there_or_will_be_made() -> None:
    (row,) = sidecar_rows(replace(NEW, ready=True, uv="", writable=False))
    assert (row.level, row.found) == (Level.OK, "/d/sidecars/x is ready")
    (row,) = sidecar_rows(NEW)
    assert row.level is Level.OK
    assert row.found.startswith("/d/sidecars/x will be made at the first launch")


@pytest.mark.parametrize(
    ("facts", "found", "remedy"),
    [
        (replace(NEW, writable=False), "/d cannot be written", "Set XDG_DATA_HOME"),
        (replace(NEW, uv=""), "uv, which makes it, is missing", "pip install uv"),
        (replace(NEW, free=NEEDED - 1), "is free for it", "Free 0.5 GiB"),
        (replace(NEW, problem="gone"), "cannot be looked for: gone", "pip install --force-reinstall bottle-fsm"),
    ],
)
def test_fails_an_environment_that_cannot_be_made(facts: SidecarFacts, found: str, remedy: str) -> None:
    (row,) = sidecar_rows(facts)
    assert row.level is Level.FAILED
    assert found in row.found
    assert remedy in row.remedy


def test_sees_an_environment_that_is_complete_and_none_that_is_not(tmp_path: Path) -> None:
    environ = {"XDG_DATA_HOME": str(tmp_path)}
    facts = look_at_sidecars(environ, tmp_path)
    path = venv_path(tmp_path / "bottle-fsm")
    assert (facts.path, facts.ready, facts.writable) == (str(path), False, True)
    assert os.access(facts.uv, os.X_OK)
    assert list(tmp_path.iterdir()) == []
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").touch()
    assert not look_at_sidecars(environ, tmp_path).ready
    (path / "ready").touch()
    assert look_at_sidecars(environ, tmp_path).ready


def test_says_which_guard_there_is() -> None:
    builtin, pipelock = guard_rows({})
    assert (builtin.level, pipelock.level) == (Level.OK, Level.OK)
    assert "it needs an engine" in pipelock.found
    _, pipelock = guard_rows({"example.org/pipelock:2": True})
    assert pipelock.found == "example.org/pipelock:2 is on the engine: `guard: auto` takes it"
    _, pipelock = guard_rows({"example.org/pipelock:2": False})
    assert "docker pull example.org/pipelock:2" in pipelock.found
