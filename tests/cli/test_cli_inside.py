from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bottle_fsm.backend.fake.bottle import FakeBottle
from cli_shell import Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.apply()
    return found


@pytest.fixture(name="calls")
def _calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], bool, str | None, bytes]]:
    """Record what is run interactively, and what it would read from standard input."""
    calls: list[tuple[list[str], bool, str | None, bytes]] = []

    def interact(_self: FakeBottle, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        calls.append((list(argv), tty, workdir, os.read(0, 100)))
        return 42

    monkeypatch.setattr(FakeBottle, "interact", interact)
    return calls


@pytest.fixture(name="input_from")
def _input_from(monkeypatch: pytest.MonkeyPatch) -> object:
    """Put bytes on this process's real standard input, which commands inside are joined to."""
    kept = os.dup(0)

    def give(data: bytes) -> None:
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        os.dup2(reader, 0)
        os.close(reader)

    yield give
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_passes_the_commands_exit_code_on(shell: Shell, code: int) -> None:
    assert shell.run("exec", "implementer", "--", "exit", str(code)).code == code
    assert shell.run("exec", "implementer", "exit", str(code)).code == code


def test_leaves_the_commands_own_options_to_it(
    shell: Shell, calls: list[tuple[list[str], bool, str | None, bytes]]
) -> None:
    assert shell.run("exec", "-w", "/tmp", "implementer", "--", "ls", "-t", "--json").code == 42
    assert calls == [(["ls", "-t", "--json"], False, "/tmp", b"")]


@pytest.mark.parametrize(("flags", "seen"), [([], b""), (["-i"], b"typed")])
def test_passes_standard_input_on_only_when_asked(
    shell: Shell,
    calls: list[tuple[list[str], bool, str | None, bytes]],
    input_from: object,
    flags: list[str],
    seen: bytes,
) -> None:
    assert callable(input_from)
    input_from(b"typed")
    shell.run("exec", *flags, "implementer", "--", "cat")
    assert calls[0][3] == seen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exec", "nobody", "--", "ls"], "error: BOTTLE: there is no bottle `nobody`."),
        (["exec", "implementer"], "error: COMMAND: no command is given. Write it after --."),
        (["exec", "implementer", "--"], "error: COMMAND: no command is given. Write it after --."),
        (["exec", "-t", "implementer", "--", "ls"], "error: -t: a terminal is asked for, but standard input is none."),
        (["exec", "--frob", "implementer"], "error: No such option '--frob'."),
        (["attach"], "error: Missing argument 'BOTTLE'."),
        (["attach", "nobody"], "error: BOTTLE: there is no bottle `nobody`."),
    ],
)
def test_fails_with_125_when_not_the_command_but_we_fail(shell: Shell, words: list[str], message: str) -> None:
    ended = shell.run(*words)
    assert ended.code == 125
    assert message in ended.err


def test_runs_the_manifests_command_on_attach(
    shell: Shell, calls: list[tuple[list[str], bool, str | None, bytes]], input_from: object
) -> None:
    assert callable(input_from)
    input_from(b"from a pipe")
    assert shell.run("attach", "implementer").code == 42
    assert calls == [(["worker", "--fast"], False, None, b"from a pipe")]


def test_runs_the_providers_command_on_attach_where_the_manifest_has_none(
    shell: Shell, calls: list[tuple[list[str], bool, str | None, bytes]]
) -> None:
    shell.run("apply", shell.manifest, "reviewer")
    shell.run("attach", "reviewer")
    assert calls[0][0] == ["/bin/sh", "-l"]


def test_gives_attach_a_terminal_where_there_is_one(shell: Shell) -> None:
    assert shell.on_terminal("attach", "implementer").code == 0
    assert shell.on_terminal("exec", "-it", "implementer", "--", "exit", "9").code == 9


@pytest.mark.parametrize("words", [["exec", "impl", "--", "exit", "3"], ["attach", "impl"]], ids=["exec", "attach"])
def test_refuses_a_bottle_that_is_not_ready_unless_forced(shell: Shell, words: list[str]) -> None:
    shell.run("destroy", "implementer", "--yes")
    shell.goes_wrong("put", "refuse", "agent")
    shell.apply("--on-failure", "keep")
    ended = shell.run(*words)
    assert ended.code == 125
    assert "error: demo/implementer: is not ready: its state is mitm_up" in ended.err
    assert "`bottle-fsm resume demo/implementer` goes on with its launch; --force enters it as it is." in ended.err
    assert shell.run(words[0], "--force", *words[1:]).code == (3 if words[0] == "exec" else 0)


def test_cannot_enter_what_is_gone_even_if_forced(shell: Shell) -> None:
    shell.run("destroy", "implementer", "--yes")
    ended = shell.run("exec", "--force", "implementer", "--", "ls")
    assert ended.code == 125
    assert ended.err == "error: demo/implementer: there is no agent.\n"


def test_refuses_to_talk_to_another_engine(shell: Shell) -> None:
    shell.world.restart(identity=True)
    ended = shell.run("cp", "implementer:/tmp/x", ".")
    assert ended.code == 4
    assert "another engine answers" in ended.err
