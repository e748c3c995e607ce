from __future__ import annotations

import io
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from bottle_fsm.cli.display import Displays, EventsOnly, PlainLines
from bottle_fsm.cli.live import LiveTable
from bottle_fsm.cli.story import Story, colons, table
from bottle_fsm.cli.streams import write_error
from bottle_fsm.model import Event
from bottle_fsm.store import kinds

EVENT = Event(
    sequence=3,
    time="t",
    monotonic=1.0,
    boot="b",
    run="r",
    epoch=1,
    actor={},
    bottle="demo/a",
    launch="l",
    machine="m",
    spec="s",
    kind=kinds.DONE,
    trigger="start_mitm",
    source="proxies_up",
    dest="mitm_up",
    attempt=1,
    cause="apply",
    resources=(),
    evidence={},
    error="",
    duration=0.5,
    prev="p",
)


def told(*events: Event, steps: bool = True) -> list[str]:
    story = Story(steps=steps)
    return [line.text for event in events for line in story.tell(event)]


class Broken:
    """A display on which everything fails."""

    def event(self, event: Event) -> None:
        raise OSError("no space\x1b left")

    def progress(self, bottle: str, text: str) -> None:
        raise OSError("no space left")

    def say(self, text: str) -> None:
        raise OSError("no space left")

    def note(self, text: str) -> None:
        raise OSError("no space left")

    def aside(self) -> AbstractContextManager[object]:
        return nullcontext()

    def close(self) -> None:
        raise OSError("no space left")


# -- the story ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["demo/a  mitm_up        0.50 s"]),
        ({"kind": kinds.SKIPPED, "cause": "no TLS\n"}, ["demo/a  mitm_up      skipped: no TLS\\n"]),
        ({"kind": kinds.LOCK}, []),
        ({"kind": kinds.INTENT}, []),
        ({"kind": kinds.KEPT}, ["demo/a  kept as it is, in the state proxies_up"]),
        ({"trigger": "repair", "cause": "gone"}, ["demo/a  repair: gone"]),
        ({"kind": kinds.STEP_DONE, "evidence": {"step": "x"}}, ["demo/a      x (apply) 0.50 s"]),
        ({"kind": kinds.STEP_SKIPPED, "evidence": {"step": "x"}}, ["demo/a      x skipped: apply"]),
        ({"kind": kinds.UNDO_DONE}, ["demo/a      undone: start_mitm 0.50 s"]),
        ({"kind": kinds.UNDO_FAILED, "cause": "a\nb"}, ["demo/a  undoing start_mitm failed: a\n    b"]),
        ({"kind": kinds.OBSERVED}, []),
        (
            {"kind": kinds.OBSERVED, "evidence": {"untested": {"gate\x1b": "no TLS\n"}}},
            ["demo/a  not tested: gate\\x1b: no TLS\\n"],
        ),
        ({"kind": kinds.OBSERVED, "evidence": {"untested": "odd"}}, []),
        (
            {"kind": kinds.OBSERVED, "cause": "left open: x", "evidence": {"settled": []}},
            ["demo/a  settled what an earlier run left open: left open: x"],
        ),
        ({"kind": kinds.OBSERVED, "cause": "nothing is left", "evidence": {"looks": [1]}}, ["demo/a  nothing is left"]),
        (
            {"kind": kinds.FAILED, "cause": "demo/a mitm_up: it\x1b broke"},
            ["demo/a  mitm_up attempt 1 failed: it\\x1b broke"],
        ),
        ({"bottle": "demo/\x1b[2J"}, ["demo/\\x1b[2J  mitm_up        0.50 s"]),
    ],
)
def test_tells_what_an_event_says(changes: dict[str, object], lines: list[str]) -> None:
    assert told(replace(EVENT, **changes)) == lines  # type: ignore[arg-type]  # the fields of one row


def test_tells_steps_only_when_asked_or_when_mending() -> None:
    step = replace(EVENT, kind=kinds.STEP_DONE, evidence={"step": "start guard"})
    skipped = replace(EVENT, kind=kinds.STEP_SKIPPED, evidence={"step": "ca"})
    assert told(step, skipped, steps=False) == []
    assert "start guard" in told(replace(EVENT, trigger="repair"), step, steps=False)[1]


def test_tells_a_fingerprint_once_and_again_when_it_changes() -> None:
    first = replace(EVENT, kind=kinds.STEP_DONE, evidence={"step": "ca", "facts": {"ca_sha256": "ab" * 32}})
    same = replace(EVENT, evidence={"ca_sha256": "ab" * 32})
    other = replace(EVENT, evidence={"ca_sha256": "cd" * 32})
    lines = told(first, same, other, replace(EVENT, evidence={"ca_sha256": 7, "facts": []}))
    assert [line.split(": ")[1] for line in lines if "fingerprint" in line] == [
        ":".join(["AB"] * 32),
        ":".join(["CD"] * 32),
    ]
    assert colons("") == ""


def test_shows_findings_in_columns_with_the_remedy_of_what_failed() -> None:
    rows: list[dict[str, Any]] = [
        {"detail": "", "more": 1, "ok": True, "remedy": "none needed", "tool": "curl", "version": "8.1"},
        {"detail": None, "ok": False, "remedy": "set NODE_USE_ENV_PROXY=1", "tool": "node\x1b", "version": "24"},
    ]
    assert [line.text for line in table("trust", "tool", rows)] == [
        "    trust              tool      version  more",
        "               ok      curl      8.1      1",
        "               FAILED  node\\x1b  24             set NODE_USE_ENV_PROXY=1",
    ]
    assert [line.tone for line in table("trust", "tool", rows)] == ["quiet", "good", "bad"]


def test_tells_findings_again_only_when_a_result_changed() -> None:
    rows = [{"probe": "dns", "ok": True, "ms": 3}]
    first = replace(EVENT, evidence={"selftest": rows})
    slower = replace(EVENT, evidence={"selftest": [{**rows[0], "ms": 9}]})
    worse = replace(EVENT, kind=kinds.FAILED, evidence={"selftest": [{**rows[0], "ok": False}]})
    lines = [line for line in told(first, slower, worse) if "dns" in line]
    assert lines == ["demo/a                 ok      dns    3 ms", "demo/a                 FAILED  dns    3 ms"]
    assert told(replace(EVENT, kind=kinds.LOCK, evidence={"selftest": "odd"})) == []


# -- displays ----------------------------------------------------------------------------------------------------------


def test_puts_a_broken_display_aside_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Event] = []
    displays = Displays([Broken(), EventsOnly(seen.append)])
    displays.note("nothing raises")
    displays.event(EVENT)
    displays.event(EVENT)
    displays.progress("demo/a", "x")
    displays.say("x")
    with displays.aside():
        pass
    displays.close()
    assert len(seen) == 2
    assert capsys.readouterr().err == "warning: Broken stops showing: no space\\x1b left\n"


def test_repeats_no_progress_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines(Story(steps=True))
    for text in ("pull\x1b 1/2", "pull\x1b 1/2", "pull 2/2"):
        lines.progress("demo/a", text)
    lines.close()
    assert capsys.readouterr().err == "demo/a    … pull\\x1b 1/2\ndemo/a    … pull 2/2\n"


def test_writes_a_note_past_all_buffers(capfd: pytest.CaptureFixture[str]) -> None:
    PlainLines(Story(steps=True)).note("a signal")
    assert capfd.readouterr().err == "a signal\n"


def test_forgets_a_stream_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr("sys.stderr", stream)
    write_error("to nobody")
    write_error("again")
    stream.close()


def test_draws_a_row_for_each_bottle_until_it_is_ready() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    live = LiveTable(Story(steps=False), ["demo/a", "demo/b"], console=console)
    live.event(replace(EVENT, kind=kinds.STEP_INTENT, evidence={"step": "create \x1bguard"}))
    live.progress("demo/b", "pull 1/2")
    live.progress("demo/late", "x")
    with live.aside():
        screen.write("[question]")
    live.note("a signal\x07 came")
    live.event(replace(EVENT, dest="provisioned"))
    live.close()
    shown = screen.getvalue()
    assert "create \\x1bguard" in shown
    assert "pull 1/2" in shown
    assert "demo/late" in shown
    assert "✓" in shown
    assert "a signal\\x07 came" in shown
    assert "demo/a  provisioned    0.50 s\n" in shown
