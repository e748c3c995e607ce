"""A person at a shell, for tests: a state directory, a home, a manifest, and the program."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing

from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.backend.fake.world import FakeWorld, Fault
from bottle_fsm.cli.main import door
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root

PROGRAM = str(Path(sys.executable).with_name("bottle-fsm"))
MANIFEST = """\
version: 1
name: demo
backend: fake
bottles:
  dev:
    env: {COLOUR: blue}
    egress: {allow: [example.org]}
agents:
  implementer: {bottle: dev, prompt: Do it., command: [worker, --fast]}
  reviewer: {bottle: dev}
"""


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """One person's place."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state = place / "state"
        self.home = place / "home"
        self.home.mkdir()
        self.manifest = place / "demo.yaml"
        self.manifest.write_text(MANIFEST)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BOTTLE_FSM_STATE_DIR": str(self.state),
            "TERM": "xterm",
        }
        self.env |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}

    # -- the program -------------------------------------------------------------------------------------------------

    def run(self, *words: str | Path, stdin: str | bytes = "") -> Ended:
        """Run a command line in this process."""
        nothing = dict.fromkeys(("BOTTLE_FSM_STATE_DIR", "XDG_STATE_HOME", "DOCKER_HOST"))
        runner = click.testing.CliRunner(env={**nothing, **self.env})
        result = runner.invoke(door, [str(word) for word in words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    def apply(self, *words: str | Path) -> Ended:
        """Launch the implementer."""
        return self.run("apply", self.manifest, "implementer", *words)

    def spawn(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command line in a process of its own."""
        return subprocess.Popen(
            [PROGRAM, *map(str, words)],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], *, seconds: float = 60.0) -> Ended:
        """Wait for a process that was spawned."""
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
        return Ended(process.returncode, out, err)

    def on_terminal(self, *words: str | Path, answers: dict[str, str] | None = None) -> Ended:
        """Run a command line on a terminal of its own; type each answer when its question is shown."""
        return converse([PROGRAM, *map(str, words)], env=self.env, answers=answers or {})

    def ended(self, *words: str | Path) -> Ended:
        """Run a command line in a process of its own, without a terminal."""
        return self.finish(self.spawn(*words))

    # -- the world ---------------------------------------------------------------------------------------------------

    @property
    def world(self) -> FakeWorld:
        """The simulated engine."""
        return FakeWorld(self.state / WORLD_FILE)

    def goes_wrong(self, op: str, mishap: Any, role: str = "", times: int = 1) -> None:
        """Let something go wrong from now on."""
        self.world.inject(Fault(op, mishap, role, times))

    def say(self, role: str, *lines: bytes) -> None:
        """Let a simulated sidecar of the implementer write lines, its first one before them."""
        found = next(o for o in self.world.objects() if o.labels["bottle-fsm.role"] == role)
        said = self.world.log(found.labels["bottle-fsm.launch"], role)
        begin = [] if said else [b'{"time": "2026-05-01T00:00:00Z", "event": "startup"}']
        self.world.say(found.id, "".join(line.decode() + "\n" for line in (*begin, *lines)))

    def kinds(self, bottle: str = "demo/implementer") -> list[str]:
        """The kinds of a bottle's events, in order."""
        root = open_root(self.state)
        journal = Journal(root.path, root.root_id)
        try:
            return [event.kind for event in journal.events(bottle)]
        finally:
            journal.close()

    def wait_for(self, kind: str, *, seconds: float = 30.0) -> None:
        """Wait until the journal of another process has an event of a kind."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (self.state / "journal.sqlite3").exists() and kind in self.kinds():
                return
            time.sleep(0.02)
        raise AssertionError(f"no {kind} in {self.kinds()}")

    def ids(self) -> list[str]:
        """The ids of all simulated objects."""
        return sorted(found.id for found in self.world.objects())


def converse(
    argv: list[str], *, env: dict[str, str], answers: dict[str, str], signum: int = 0, seconds: float = 60.0
) -> Ended:
    """Run a program on a terminal; everything that it shows comes back as `out`.

    Args:
        argv: the program. env: its environment.
        answers: what to type when a text is shown; an answer of "^C" sends the key.
        signum: sent when the first answer was due, instead of typing, if not 0.
        seconds: how long it may take.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    shown, waiting = b"", dict(answers)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
            for question in [q for q in waiting if q.encode() in shown]:
                answer = waiting.pop(question)
                if signum:
                    os.kill(pid, signum)
                else:
                    os.write(terminal, b"\x03" if answer == "^C" else f"{answer}\n".encode())
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, shown.decode(errors="replace"), "")
