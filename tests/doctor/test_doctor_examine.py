from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.cli.reading import reading
from bottle_fsm.doctor import bounded, examine, state_look
from bottle_fsm.doctor.examine import Examination
from bottle_fsm.doctor.rows import Level, Row
from bottle_fsm.doctor.sidecars import SidecarFacts

PARTS = ("look_at_directory", "look_at_engine", "look_at_sandboxes", "look_at_sidecars", "look_at_journal")


def look(place: Path, *, platform: str = "linux", opens: Any = reading) -> Examination:
    environ = {"PATH": "/usr/bin:/bin", "DOCKER_HOST": "unix:///nowhere/x", "XDG_DATA_HOME": str(place)}
    return examine.examine(place / "state", environ, opens, platform=platform)


def row(found: Examination, area: str, name: str) -> Row:
    (one,) = (r for r in found.rows if (r.area, r.name) == (area, name))
    return one


def test_says_where_there_is_no_linux_what_else_can_be_used(tmp_path: Path) -> None:
    found = look(tmp_path, platform="darwin")
    assert found.backends == ()
    assert [r.name for r in found.rows if r.area in {"sandbox", "sidecars"}] == ["system"]
    assert "Docker Desktop" in row(found, "sandbox", "system").remedy
    assert row(found, "backends", "local").level is Level.FAILED


@pytest.mark.parametrize("part", PARTS)
def test_survives_a_look_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr(examine, part, breaks)
    found = look(tmp_path)
    (broken,) = (r for r in found.rows if "it broke" in r.found)
    assert broken.level is Level.FAILED
    assert broken.remedy
    needed_by_local = part != "look_at_engine"
    assert found.backends == (() if needed_by_local else ("local",))


@pytest.mark.parametrize("part", PARTS)
def test_does_not_wait_for_a_look_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    end = threading.Event()
    monkeypatch.setattr(examine, part, lambda *_, **__: end.wait())
    monkeypatch.setattr(examine, "SECONDS", 1.0)
    monkeypatch.setattr(bounded.bounded, "__kwdefaults__", {"seconds": 1.0})
    began = time.monotonic()
    found = look(tmp_path)
    assert time.monotonic() - began < 15
    assert any("no answer within" in r.found for r in found.rows if r.level is Level.FAILED)
    assert found.backends == (() if part != "look_at_engine" else ("local",))
    end.set()


def test_does_not_wait_for_a_journal_that_another_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()

    def opens(_: Path) -> None:
        end.wait()

    monkeypatch.setattr(bounded.bounded, "__kwdefaults__", {"seconds": 1.0})
    found = look(tmp_path, opens=opens)
    assert row(found, "state", "journal").level is Level.WARNING
    assert row(found, "state", "leftovers").level is Level.WARNING
    assert found.backends == ("local",)
    end.set()


def test_takes_the_sidecars_environment_into_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "look_at_sidecars", lambda *_: SidecarFacts(path="/x", uv="", free=1))
    found = look(tmp_path)
    assert found.backends == ()
    assert row(found, "backends", "local").found == "cannot run: see sidecars/environment"


def test_tells_when_there_is_no_boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_look, "boot_id", lambda: "unknown")
    assert row(look(tmp_path), "state", "boot id").level is Level.WARNING
