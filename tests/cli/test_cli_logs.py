from __future__ import annotations

from pathlib import Path

import pytest

from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.model import Launch
from cli_shell import Shell

DECISION = b'{"time": "t", "event": "decision", "action": "deny", "host": "denied.example"}'
LOG = b"starting\n" + DECISION + b'\n{"event": "startup"}\n["decision"]\n\x1b[31mred\n'


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


@pytest.fixture(name="wrote")
def _wrote(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []

    def logs(_self: FakeBackend, _launch: Launch, role: str, tail: int, *, since: float = 0.0) -> bytes:
        asked.append((role, tail))
        return LOG

    monkeypatch.setattr(FakeBackend, "logs", logs)
    return asked


def test_marks_each_line_with_its_role(shell: Shell, wrote: list[tuple[str, int]]) -> None:
    out = shell.run("logs", "implementer", "--tail", "5").out
    assert wrote == [("guard", 5), ("interceptor", 5), ("agent", 5)]
    assert out.startswith("guard       | starting\n")
    assert "\ninterceptor | starting\n" in out


def test_shows_the_bytes_of_one_role_as_they_are_in_a_pipe(shell: Shell, wrote: list[tuple[str, int]]) -> None:
    assert shell.run("logs", "implementer", "--role", "agent").out.encode() == LOG
    assert wrote == [("agent", 200)]


def test_spells_control_characters_out_on_a_terminal(
    shell: Shell, wrote: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bottle_fsm.cli.verbs.logs.on_terminal", lambda: True)
    lines = shell.run("logs", "implementer", "--role", "agent").out.split("\n")
    assert lines[-2:] == ["\\x1b[31mred", ""]
    assert len(lines) == len(LOG.split(b"\n"))


def test_refuses_options_that_make_no_sense_together(shell: Shell) -> None:
    ended = shell.run("logs", "implementer", "--egress", "--role", "agent")
    assert (ended.code, ended.err) == (
        1,
        "error: --role: the agent decides nothing. Leave --role away with --egress.\n",
    )
    ended = shell.run("logs", "implementer", "-f")
    assert (ended.code, ended.err) == (1, "error: --follow: only decisions can be followed. Give --egress, too.\n")


def test_says_when_a_backend_keeps_no_logs(shell: Shell) -> None:
    ended = shell.run("logs", "implementer")
    assert ended.code == 1
    assert "the backend fake keeps no logs of guard" in ended.err
