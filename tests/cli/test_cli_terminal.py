from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli_shell import PROGRAM, Shell, converse

ASK = """
from bottle_fsm.cli.display import Displays
from bottle_fsm.cli.terminal import Terminal
from bottle_fsm.runner.stop import Stop
secret = Terminal(Displays([]), Stop(), yes=False).ask("demo/a", "Paste the key")
print("got", len(secret), secret)
"""
STOPPED = """
import signal
from bottle_fsm.cli.display import Displays
from bottle_fsm.cli.terminal import Terminal
from bottle_fsm.errors import InterruptedLaunchError
from bottle_fsm.runner.stop import Stop, on_signals
stop = Stop()
with on_signals(stop, lambda signum: None):
    try:
        Terminal(Displays([]), stop, yes=False).ask("demo/a", "Paste the key")
    except InterruptedLaunchError as error:
        print("stopped by", error.signum)
import termios
print("echo is", "on" if termios.tcgetattr(0)[3] & termios.ECHO else "off")
"""


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def plain(shown: str) -> str:
    """Return what a terminal was shown, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)


def test_follows_a_launch_with_a_live_table(shell: Shell) -> None:
    shell.run("status")
    shell.world.slow_down(0.03)
    ended = shell.on_terminal("apply", shell.manifest, "implementer")
    assert ended.code == 0
    assert "\x1b[?25l" in ended.out
    assert "\x1b[?25h" in ended.out.rpartition("\x1b[?25l")[2], "the cursor is shown again"
    text = plain(ended.out)
    assert re.search(r"demo/implementer  \w+ +create guard +\d s", text), "state, step and elapsed time in one row"
    for state in ("validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted", "provisioned"):
        assert re.search(rf"^.*demo/implementer  {state} +\d+\.\d\d s$", text, re.MULTILINE)
    assert re.search(r"CA SHA-256 fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}\n", text), "in one piece"
    assert "demo/implementer: is ready\n" in text
    assert "create guard (not found)" not in text, "single steps stand in the table alone"


def test_shows_plain_lines_on_a_dumb_terminal(shell: Shell) -> None:
    shell.env["TERM"] = "dumb"
    ended = shell.on_terminal("apply", shell.manifest, "implementer")
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert "create guard (not found)" in ended.out


def test_shows_the_causes_of_a_repair_above_the_table(shell: Shell) -> None:
    shell.apply()
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.stop(guard.id)
    text = plain(shell.on_terminal("apply", shell.manifest, "implementer").out)
    assert f"repair: guard {guard.name}: exited with code 137\n" in text
    assert "start guard (exited with code 137)" in text


def test_says_on_the_terminal_what_a_key_does(shell: Shell) -> None:
    shell.run("status")
    shell.world.slow_down(0.1)
    ended = shell.on_terminal("apply", shell.manifest, "implementer", answers={"proxies_up": "^C"})
    assert ended.code == 130
    text = plain(ended.out)
    assert "SIGINT: the current step is finished, then" in text
    assert "error: stopped by signal 2.\n    Everything of this launch was taken away again.\n" in text


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, "torn_down"), ("YES", 0, "torn_down"), ("", 4, "ready")])
def test_asks_before_a_bottle_that_was_ready_goes(shell: Shell, answer: str, code: int, left: str) -> None:
    shell.apply()
    ended = shell.on_terminal("destroy", "implementer", answers={"[y/N]": answer})
    assert ended.code == code
    assert "demo/implementer: destroys demo/implementer; no change in its workspace was found. Go on? [y/N]" in (
        plain(ended.out)
    )
    assert ("not agreed" in ended.out) == (code == 4)
    assert shell.run("status", "--json").objects[0]["outcome"] == left


def test_asks_nothing_with_yes(shell: Shell) -> None:
    shell.apply()
    ended = shell.on_terminal("destroy", "implementer", "--yes")
    assert ended.code == 0
    assert "[y/N]" not in ended.out


def test_refuses_without_a_terminal_and_names_the_remedy(shell: Shell) -> None:
    shell.apply()
    ended = shell.run("destroy", "implementer")
    assert ended.code == 4
    assert "Give --yes to agree, or --save DIR to bring the workspace out first.\n" in ended.err
    assert shell.run("status", "--json").objects[0]["outcome"] == "ready"


def test_asks_for_a_secret_without_echo(shell: Shell) -> None:
    ended = converse([sys.executable, "-c", ASK], env=shell.env, answers={"Paste the key:": "s3cret-value"})
    assert "demo/a: Paste the key: " in ended.out
    assert "got 12 ********" in ended.out
    assert "s3cret-value" not in ended.out


def test_ends_a_question_by_a_signal_and_gives_the_echo_back(shell: Shell) -> None:
    ended = converse(
        [sys.executable, "-c", STOPPED], env=shell.env, answers={"Paste the key:": ""}, signum=signal.SIGINT
    )
    assert "stopped by 2" in ended.out
    assert "echo is on" in ended.out


def test_needs_a_value_where_nobody_can_be_asked(shell: Shell) -> None:
    code = "try:\n    " + "\n    ".join(ASK.strip().splitlines()) + "\nexcept Exception as e:\n    print(repr(str(e)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=shell.env, input="", capture_output=True, text=True, check=True
    )
    assert "demo/a: a value is needed: Paste the key. Run it on a terminal" in ended.stdout


def test_takes_the_end_of_input_for_no(shell: Shell) -> None:
    shell.apply()
    ended = converse([PROGRAM, "destroy", "implementer"], env=shell.env, answers={"[y/N]": "\x04"})
    assert ended.code == 4
