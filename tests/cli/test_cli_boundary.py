from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import click
import pytest

from bottle_fsm import errors
from bottle_fsm.cli.app import App
from bottle_fsm.cli.boundary import describe, exit_code_of, guarded
from bottle_fsm.errors import BottleError, InterruptedLaunchError, ManifestError, Problem
from cli_shell import PROGRAM, Shell

TABLE = [
    (errors.BottleError("x"), 1),
    (errors.UsageError("x"), 1),
    (errors.ManifestError([Problem("f:1", "x")]), 1),
    (errors.ValidationError([Problem("f:1", "x")]), 1),
    (errors.DefinitionError("x"), 1),
    (errors.StoreError("x"), 1),
    (errors.ChainBrokenError("x", sequence=7), 2),
    (errors.LockHeldError("x"), 3),
    (errors.LockLostError("x"), 3),
    (errors.DecisionNeededError("x"), 4),
    (errors.EngineUnavailableError("x"), 1),
    (errors.GateError("x"), 1),
    (errors.LaunchFailedError("x"), 5),
    (errors.TeardownIncompleteError("x"), 6),
    (errors.InterruptedLaunchError(2), 130),
    (errors.InterruptedLaunchError(15), 143),
    (errors.InterruptedLaunchError(1), 129),
]


def raising(error: BaseException) -> object:
    def run(_app: App) -> int:
        raise error

    return run


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda v: type(v).__name__ if isinstance(v, Exception) else None)
def test_gives_every_error_its_exit_code(error: BottleError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(error) == code
    assert guarded(App(), raising(error)) == code  # type: ignore[arg-type]  # the helper's result is callable
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda v: type(v).__name__ if isinstance(v, Exception) else None)
def test_gives_own_failures_of_exec_a_code_that_no_command_has(error: BottleError, code: int) -> None:
    assert code != 125
    assert guarded(App(failure_code=125), raising(error)) == 125  # type: ignore[arg-type]  # as above


def test_says_where_what_and_how_to_go_on() -> None:
    error = BottleError("it broke", place="demo/a mitm_up", hint="Mend it")
    assert describe(error) == "error: demo/a mitm_up: it broke. Mend it."
    assert describe(BottleError("it broke?")) == "error: it broke?"
    assert describe(InterruptedLaunchError(2)) == "error: stopped by signal 2."


def test_lists_every_problem_of_a_manifest() -> None:
    error = ManifestError([Problem("a:1 x", "one", "Do this"), Problem("a:2 y", "two")])
    assert describe(error) == "error: a:1 x: one. Do this.\nerror: a:2 y: two."


def test_keeps_data_in_an_error_from_forging_lines_and_colours() -> None:
    shown = describe(BottleError("it said \x1b[2J\nerror: all is well", place="demo/\x1b[31ma"))
    assert shown == "error: demo/\\x1b[31ma: it said \\x1b[2J\n    error: all is well."


def test_shows_tracebacks_only_with_debug(shell: Shell) -> None:
    plain, debug = shell.run("status", "nobody"), shell.run("--debug", "status", "nobody")
    assert plain.code == debug.code == 1
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.err.endswith(plain.err)


def test_shows_the_traceback_of_a_failed_launch_with_debug(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("start", "exits", "guard")
    assert "SidecarExitedError" in shell.apply("--debug").err


def test_turns_an_unexpected_exception_into_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(App(), raising(ValueError("odd\x1b"))) == 1  # type: ignore[arg-type]  # as above
    err = capsys.readouterr().err
    assert err.startswith("error: internal: ValueError: odd\\x1b. Run it again with --debug")
    assert guarded(App(debug=True), raising(ValueError("odd"))) == 1  # type: ignore[arg-type]  # as above
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ends_with_130_on_a_key_outside_a_launch(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(App(), raising(error)) == 130  # type: ignore[arg-type]  # as above
    assert capsys.readouterr().err == "interrupted.\n"


def test_says_after_a_second_signal_that_the_journal_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(App(signum=15), raising(KeyboardInterrupt())) == 143  # type: ignore[arg-type]  # as above
    err = capsys.readouterr().err
    assert "The journal is safe" in err
    assert "`bottle-fsm resume` goes on" in err


def test_does_not_wait_for_other_threads_after_a_second_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        guarded(App(signum=2), raising(KeyboardInterrupt()))  # type: ignore[arg-type]  # as above
    finally:
        stop.set()
        thread.join()
    assert left == [130]
    assert "stopped at once" in capsys.readouterr().err


def test_is_quiet_when_its_reader_leaves(shell: Shell) -> None:
    for _ in range(3):
        shell.apply()
        shell.run("destroy", "implementer", "--yes")
    script = f"{PROGRAM} audit export | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], env=shell.env, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert int(ended.stdout) in {0, 141}


def test_goes_on_launching_when_the_reader_of_its_json_leaves(shell: Shell) -> None:
    script = f"{PROGRAM} apply {shell.manifest} implementer --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], env=shell.env, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in ended.stderr
    assert shell.run("status", "--json").objects[0]["outcome"] == "ready"


def test_shows_what_a_narrow_terminal_encoding_cannot_hold(shell: Shell) -> None:
    shell.apply()
    shell.env["PYTHONIOENCODING"] = "latin-1"
    ended = shell.finish(shell.spawn("audit", "--kind", "done"))
    assert ended.code == 0
    assert "declared\\u2192validated" in ended.out


def test_ends_the_json_of_an_internal_error_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("bottle_fsm.cli.verbs.plan.wanted", broken)
    ended = shell.run("plan", shell.manifest, "--json")
    assert ended.code == 1
    assert ended.objects[-1]["error"] == {"code": "internal", "problem": "RuntimeError: odd"}
    assert ended.err.startswith("error: internal: RuntimeError: odd.")


def test_ends_the_json_of_a_second_signal_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bottle_fsm.cli.verbs.plan.wanted", stopped)
    ended = shell.run("plan", shell.manifest, "--json")
    assert ended.code == 130
    assert ended.objects[-1] == {"type": "outcome", "outcome": "interrupted", "exit_code": 130}
