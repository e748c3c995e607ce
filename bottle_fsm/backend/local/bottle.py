"""LocalBottle: the handle into a running sandbox; as `root`, into a short-lived one beside it that may write /etc.

Not its duty: starting, checking or removing the sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bottle_fsm import inside
from bottle_fsm.backend.local import seccomp
from bottle_fsm.backend.local.door import Session, Wanted
from bottle_fsm.backend.local.sandbox import SECCOMP
from bottle_fsm.backend.terminal import STDERR, Terminal
from bottle_fsm.bottle import ExecResult
from bottle_fsm.errors import BackendError, DriftError
from bottle_fsm.failpoints import hit
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
        if call.user == "root":
            return self._maintain(call)
        deadline = time.monotonic() + call.seconds
        wanted = Wanted(call.argv, call.env, call.workdir or self._settings["workdir"])
        session = Session(self._directory, wanted, place=self._name, stdin=call.stdin is not None)
        try:
            if call.stdin is not None:
                session.feed(call.stdin, call.length)
            outputs = self._collect(session, call, deadline)
            return ExecResult(session.exit_code(_EXIT_SECONDS), *outputs)
        except TimeoutError:
            session.close()
            self._end(call)
            raise TimeoutError(call.argv[0]) from None
        finally:
            session.close()

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

    def _collect(self, session: Session, call: Call, deadline: float) -> tuple[bytes, bytes]:
        outputs: dict[bool, bytearray] = {False: bytearray(), True: bytearray()}
        for number, data in session.frames(deadline):
            if number != STDERR and call.sink is not None:
                call.sink.write(data)
                continue
            outputs[number == STDERR] += data
            if len(outputs[number == STDERR]) > OUTPUT_LIMIT:
                session.close()
                self._end(call)
                raise BackendError(f"a command wrote more than {OUTPUT_LIMIT >> 20} MiB", place=self._name)
        return bytes(outputs[False]), bytes(outputs[True])

    def _end(self, call: Call) -> None:
        """Kill what a call left behind in sessions of its own; one without a mark is ended with its connection."""
        if not call.mark:
            return
        argv = (SHELL, "-c", inside.KILL, "bottle-kill", call.mark)
        with suppress(TimeoutError, BackendError):
            self.run(Call(argv=argv, user="agent", seconds=10.0, mark=""))

    def _maintain(self, call: Call) -> ExecResult:
        """Run a command in a sandbox of its own, with the same places, in which /etc can be written."""
        prefix = self._settings.get("maintenance")
        if not prefix:
            raise BackendError("nothing in this sandbox is done as root", place=self._name)
        descriptor = seccomp.sealed_fd()
        try:
            process = subprocess.Popen(
                [word.replace(SECCOMP, str(descriptor)) for word in (*prefix, *call.argv)],
                stdin=subprocess.PIPE if call.stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._settings["env"], **call.env},
                pass_fds=(descriptor,),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(descriptor)
        hit("exec.started", self._name)
        with process:
            try:
                data = call.stdin.read(call.length) if call.stdin is not None else None
                output, errors = process.communicate(data, timeout=call.seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise TimeoutError(call.argv[0]) from None
            except BaseException:
                process.kill()
                raise
        if call.sink is not None:
            call.sink.write(output)
            output = b""
        return ExecResult(128 - process.returncode if process.returncode < 0 else process.returncode, output, errors)
