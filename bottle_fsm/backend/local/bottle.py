"""LocalBottle: the handle into a running sandbox; as `root`, into a short-lived one beside it that may write /etc.

Not its duty: starting, checking or removing the sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bottle_fsm import inside
from bottle_fsm.backend.local.door import Session, Wanted
from bottle_fsm.backend.local.maintenance import Maintenance
from bottle_fsm.backend.terminal import STDERR, Terminal
from bottle_fsm.bottle import ExecResult
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.model import Json
from bottle_fsm.places import WORKSPACE
from bottle_fsm.transfer import SHELL, Call, ExecBottle

OUTPUT_LIMIT: Final = 64 << 20
"""Bytes that one command may write; a runaway agent must not fill the launcher's memory."""
_EXIT_SECONDS: Final = 5.0


class LocalBottle(ExecBottle):
    """A sandbox, by its object's directory and what its `object.json` says."""

    def __init__(self, directory: Path, *, name: str) -> None:
        """Name the sandbox.

        Raises:
            DriftError: it is gone.
        """
        self._directory = directory
        self._name = name
        try:
            self._settings: Json = json.loads((directory / "object.json").read_bytes())
        except (OSError, ValueError) as error:
            raise DriftError("is gone", place=name) from error

    @property
    def python(self) -> str:
        """Return the interpreter of our own programs inside."""
        return str(self._settings["python"])

    @property
    def place(self) -> str:
        """Return the sandbox's name."""
        return self._name

    def run(self, call: Call) -> ExecResult:
        """Run one process to its end; see `ExecBottle.run`."""
        deadline = time.monotonic() + call.seconds
        if call.user == "root":
            return self._maintain(call, deadline)
        wanted = Wanted(call.argv, call.env, call.workdir or self._settings["workdir"])
        session = Session(self._directory, wanted, place=self._name, stdin=call.stdin is not None)
        try:
            if call.stdin is not None:
                session.feed(call.stdin, call.length)
            outputs = self._collect(session.frames(deadline), call)
            result = ExecResult(session.exit_code(_EXIT_SECONDS), *outputs)
        except TimeoutError:
            session.end()
            raise TimeoutError(call.argv[0]) from None
        except BaseException:
            session.end()
            raise
        session.close()
        return result

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        """Connect this process's terminal or pipes to a command inside; return its exit code."""
        size = shutil.get_terminal_size()
        wanted = Wanted(
            (SHELL, "-c", inside.INTERACT, "bottle-session", *argv),
            {"TERM": os.environ.get("TERM", "xterm")} if tty else {},
            workdir or WORKSPACE,
            (size.lines, size.columns) if tty else None,
        )
        session = Session(self._directory, wanted, place=self._name)
        try:
            Terminal(session, tty=tty, resize=session.resize).run()
            return session.exit_code(_EXIT_SECONDS)
        finally:
            session.close()

    def _collect(self, frames: Iterable[tuple[int, bytes]], call: Call) -> tuple[bytes, bytes]:
        """Gather what a command writes, as far as anybody will read it."""
        outputs: dict[bool, bytearray] = {False: bytearray(), True: bytearray()}
        for number, data in frames:
            if number != STDERR and call.sink is not None:
                call.sink.write(data)
                continue
            outputs[number == STDERR] += data
            if len(outputs[number == STDERR]) > OUTPUT_LIMIT:
                raise BackendError(f"a command wrote more than {OUTPUT_LIMIT >> 20} MiB", place=self._name)
        return bytes(outputs[False]), bytes(outputs[True])

    def _maintain(self, call: Call, deadline: float) -> ExecResult:
        """Run a command in a sandbox of its own, with the same places, in which /etc can be written."""
        prefix = self._settings.get("maintenance")
        if not prefix:
            raise BackendError("nothing in this sandbox is done as root", place=self._name)
        command = Maintenance(prefix, call.argv, {**self._settings["env"], **call.env}, place=self._name)
        try:
            command.begin(deadline)
            command.feed(call.stdin, call.length)
            outputs = self._collect(command.frames(deadline), call)
            return ExecResult(command.exit_code(deadline), *outputs)
        except TimeoutError:
            raise TimeoutError(call.argv[0]) from None
        finally:
            command.end()
