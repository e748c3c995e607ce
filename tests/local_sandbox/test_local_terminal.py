"""A person at a real terminal in a sandbox: size, resizing, keys, exit code; and pipes instead of a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from cli_shell import PROGRAM
from local_sandbox.local_bench import Tenant

GUEST = "walls/guest"


class Person:
    """A terminal with the program in it."""

    def __init__(self, tenant: Tenant, *words: str, rows: int = 33, columns: int = 101) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, *words], {**tenant.env, "TERM": "xterm"})
        self.shown = b""
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def sees(self, text: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while text.encode() not in self.shown:
            assert time.monotonic() < end, (text, self.shown)
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.terminal, 65536)
                except OSError:
                    break
        _, _, self.shown = self.shown.partition(text.encode())

    def ended(self) -> int:
        while True:
            try:
                if not os.read(self.terminal, 65536):
                    break
            except OSError:
                break
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_gives_a_terminal_with_size_keys_and_exit_code(walls: Tenant) -> None:
    person = Person(walls, "attach", GUEST)
    person.sees("/workspace$ ")
    person.type("stty size; tty; echo 'sign 1'\r")
    person.sees("33 101")
    person.sees("/dev/pts/")
    person.sees("sign 1")
    person.resize(44, 90)
    time.sleep(0.3)
    person.type("stty size\r")
    person.sees("44 90")
    person.type("sleep 1000\r")
    time.sleep(0.5)
    person.type("\x03")
    person.type("echo code=$?\r")
    person.sees("code=130")
    person.type("exit 7\r")
    assert person.ended() == 7


def test_hangs_up_when_the_person_closes_the_terminal(walls: Tenant) -> None:
    person = Person(walls, "attach", GUEST)
    person.sees("/workspace$ ")
    person.type("sleep 4812\r")
    end = time.monotonic() + 15
    while "sleep 4812" not in walls.inside("ps axo args"):
        assert time.monotonic() < end
    os.kill(person.pid, signal.SIGKILL)
    os.waitpid(person.pid, 0)
    os.close(person.terminal)
    while "sleep 4812" in walls.inside("ps axo args"):
        assert time.monotonic() < end, "the shell and what it ran end with the terminal"


def test_types_escape_tricks_into_no_terminal_of_this_machine(walls: Tenant) -> None:
    """What asks a terminal to answer is answered by nobody inside, and TIOCSTI is refused on the PTY itself."""
    script = 'import fcntl, sys; fcntl.ioctl(0, 0x5412, b"x")'
    person = Person(walls, "exec", "-i", "-t", GUEST, "--", "/usr/bin/python3", "-c", script)
    person.sees("PermissionError")
    assert person.ended() == 1


@pytest.mark.parametrize("sent", [b"", b"some bytes\n", bytes(range(256)) * 999])
def test_passes_pipes_through(walls: Tenant, sent: bytes) -> None:
    done = subprocess.run(
        [PROGRAM, "exec", "-i", GUEST, "--", "cat"], input=sent, env=walls.env, capture_output=True, check=True
    )
    assert done.stdout == sent


def test_passes_a_signals_exit_code(walls: Tenant) -> None:
    assert walls.run("exec", GUEST, "--", "sh", "-c", "kill -TERM $$").code == 143
    assert walls.run("exec", GUEST, "--", "no-such-program").code == 127
