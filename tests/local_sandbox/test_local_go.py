"""The word to go: a sandbox's first process runs nothing before its supervisor recorded it, nor without one."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bottle_fsm.backend.local import first
from bottle_fsm.backend.local.places import CODE
from bottle_fsm.backend.local.sandbox import CONTROL
from local_sandbox.held_sandbox import wait_for

WITHOUT_GO: Final = 125


@contextmanager
def begun(mark: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Begin a first process on this host, whose one program makes a file; yield it, and the supervisor's end."""
    ours, theirs = socket.socketpair()
    door, listener = socket.socketpair()
    numbers = {CONTROL: str(listener.fileno()), first.GO: str(theirs.fileno())}
    words = [*first.words(sys.executable, main=("/usr/bin/touch", str(mark)), limits={"core": 0})]
    for name, number in numbers.items():
        words[-1] = words[-1].replace(name, number)
    words[-2] = words[-2].replace(f"'{CODE}'", repr(str(first.SOURCE.parent)))
    given = (theirs.fileno(), listener.fileno())
    with door, ours, subprocess.Popen(words, pass_fds=given, stdin=subprocess.DEVNULL) as process:
        theirs.close()
        listener.close()
        ours.settimeout(15.0)
        try:
            yield process, ours
        finally:
            process.kill()


def test_runs_nothing_before_the_word_and_then_its_program(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with begun(mark) as (process, supervisor):
        assert supervisor.recv(16) == b"here"
        time.sleep(0.3)
        assert process.poll() is None
        assert not mark.exists()
        supervisor.sendall(b"go")
        wait_for(mark.exists, "the program")
        assert process.wait(15) == 0


@pytest.mark.parametrize("word", [b"", b"no"], ids=["a supervisor that died", "another word"])
def test_runs_nothing_without_the_word(tmp_path: Path, word: bytes) -> None:
    mark = tmp_path / "mark"
    with begun(mark) as (process, supervisor):
        assert supervisor.recv(16) == b"here"
        supervisor.sendall(word)
        supervisor.close()
        assert process.wait(15) == WITHOUT_GO
        assert not mark.exists()
