from __future__ import annotations

import io
import json
from dataclasses import replace

from bottle_fsm.log import EventLog, fields_of
from bottle_fsm.model import Event

EVENT = Event(
    sequence=3,
    time="2026-01-02T03:04:05.000006Z",
    monotonic=1.0,
    boot="b",
    run="r",
    epoch=1,
    actor={"user": "u"},
    bottle="demo/a",
    launch="l",
    machine="m",
    spec="s",
    kind="failed",
    trigger="start_mitm",
    source="proxies_up",
    dest="mitm_up",
    attempt=2,
    cause="it said\n\x1b[31mforged",
    resources=({"kind": "container", "name": "c", "state": "running"},),
    evidence={"secret-looking": "left out", "step": "create"},
    error="transient",
    duration=0.5,
    prev="p",
    hash="h",
)


def test_writes_one_json_line_that_nothing_in_it_can_break() -> None:
    stream = io.StringIO()
    EventLog(stream, style="json").write(EVENT)
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert json.loads(line) == {
        "event": "failed",
        "level": "error",
        "sequence": 3,
        "time": "2026-01-02T03:04:05.000006Z",
        "bottle": "demo/a",
        "launch": "l",
        "trigger": "start_mitm",
        "from": "proxies_up",
        "to": "mitm_up",
        "step": "create",
        "attempt": 2,
        "cause": "it said\\n\\x1b[31mforged",
        "error": "transient",
        "duration": 0.5,
        "resources": ["container c running"],
        "run": "r",
        "hash": "h",
    }


def test_gives_each_kind_a_level() -> None:
    stream = io.StringIO()
    log = EventLog(stream, style="json")
    for kind in ("done", "undo_failed", "step_intent"):
        log.write(replace(EVENT, kind=kind))
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == ["info", "error", "debug"]


def test_writes_for_a_console_without_control_characters() -> None:
    stream = io.StringIO()
    EventLog(stream, style="console").write(EVENT)
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert "failed" in line
    assert "sequence=3" in line


def test_leaves_empty_fields_out() -> None:
    bare = replace(EVENT, trigger="", cause="", error="", duration=0.0, resources=(), evidence={}, attempt=0, launch="")
    assert set(fields_of(bare)) == {"sequence", "time", "bottle", "from", "to", "run", "hash"}
