from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bottle_fsm.backend.fake.backend import FakeBackend
from bottle_fsm.backend.fake.bottle import FakeBottle
from bottle_fsm.model import Launch
from cli_shell import Shell

DECISION = b'{"time": "t", "event": "decision", "action": "deny", "host": "denied.example"}'
LOG = b"starting\n" + DECISION + b'\n{"event": "startup"}\n["decision"]\n\x1b[31mred\n'


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


# -- exec and attach ---------------------------------------------------------------------------------------------------


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
    assert "error: demo/implementer: is not ready: its state is agent_up" in ended.err
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


# -- cp ----------------------------------------------------------------------------------------------------------------


def test_copies_files_in_and_out(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_bytes(b"\x00hello")
    assert shell.run("cp", source, "implementer:/tmp/a").code == 0
    assert shell.run("cp", "demo/implementer:/tmp/a", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == b"\x00hello"


def test_starts_relative_paths_from_the_workspace(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_text("x")
    shell.run("cp", source, "implementer:sub/a")
    shell.run("cp", source, "implementer:")
    shell.run("cp", source, "implementer:into/")
    assert shell.run("cp", "implementer:/workspace/sub/a", tmp_path / "one").code == 0
    assert shell.run("cp", "implementer:note.txt", tmp_path / "two").code == 0
    assert shell.run("cp", "implementer:into/note.txt", tmp_path / "three").code == 0


def test_copies_trees_and_their_content(shell: Shell, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("x")
    shell.run("cp", tree, "implementer:/opt/")
    shell.run("cp", f"{tree}/.", "implementer:/srv/content/")
    shell.run("cp", "implementer:/opt/tree", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "file").read_text() == "x"
    assert shell.run("cp", "implementer:/srv/content/deep/file", tmp_path / "file").code == 0


def test_copies_into_a_directory_that_is_there(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bottle_fsm.bottle import ExecResult  # noqa: PLC0415 - this test alone pretends a directory

    monkeypatch.setattr(FakeBottle, "exec", lambda *_args, **_more: ExecResult(0, b"directory\n", b""))
    (tmp_path / "note.txt").write_text("x")
    shell.run("cp", tmp_path / "note.txt", "implementer:/srv")
    assert shell.run("cp", "implementer:/srv/note.txt", tmp_path / "host").code == 0
    (tmp_path / "place").mkdir()
    assert shell.run("cp", "implementer:/srv/note.txt", tmp_path / "place").code == 0
    assert (tmp_path / "place" / "note.txt").read_text() == "x"


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_overwrites_nothing_on_the_host_unless_forced(shell: Shell, tmp_path: Path, kind: str) -> None:
    (tmp_path / "new").write_text("new")
    shell.run("cp", tmp_path / "new", "implementer:/tmp/old")
    place = tmp_path / "there"
    place.mkdir()
    old = place / "old"
    if kind == "file":
        old.write_text("old")
    elif kind == "directory":
        (old / "old").mkdir(parents=True)
        place = old
        old = old / "old"
    else:
        old.symlink_to("nowhere")
    ended = shell.run("cp", "implementer:/tmp/old", place)
    assert ended.code == 1
    assert f"error: {old}: exists on this host. --force replaces it.\n" in ended.err
    assert shell.run("cp", "--force", "implementer:/tmp/old", place).code == 0
    assert old.read_text() == "new"
    assert [p.name for p in place.iterdir()] == ["old"], "nothing temporary is left"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["implementer:/a", "reviewer:/b"], "one side must be BOTTLE:PATH, and only one"),
        (["./a:b", "c"], "one side must be BOTTLE:PATH, and only one"),
        (["nothing-here", "implementer:/b"], "error: nothing-here: there is no such file or directory.\n"),
        (["implementer:/nothing", "{place}/x"], "there is no /nothing"),
        (["implementer:/nothing", "{place}/no/x"], "no: there is no such directory.\n"),
    ],
)
def test_says_what_cannot_be_copied(shell: Shell, tmp_path: Path, words: list[str], message: str) -> None:
    ended = shell.run("cp", *(word.format(place=tmp_path) for word in words))
    assert ended.code == 1
    assert message in ended.err


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="wrote")
def _wrote(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []

    def logs(_self: FakeBackend, _launch: Launch, role: str, tail: int) -> bytes:
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


def test_shows_decisions_alone(shell: Shell, wrote: list[tuple[str, int]]) -> None:
    assert shell.run("logs", "implementer", "--egress").out.encode() == DECISION + b"\n"
    assert wrote == [("interceptor", 200)]
    ended = shell.run("logs", "implementer", "--egress", "--role", "guard")
    assert (ended.code, ended.err) == (
        1,
        "error: --role: decisions are the interceptor's. Leave --role away with --egress.\n",
    )


def test_says_when_a_backend_keeps_no_logs(shell: Shell) -> None:
    ended = shell.run("logs", "implementer")
    assert ended.code == 4
    assert "the backend fake keeps no logs of guard" in ended.err
