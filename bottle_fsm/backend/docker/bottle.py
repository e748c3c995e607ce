"""DockerBottle: the handle into a running agent container, through the engine's exec calls.

Not its duty: starting, checking or removing the container.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Mapping, Sequence
from typing import Final

from bottle_fsm import inside
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.stream import ExecStream, Pump
from bottle_fsm.backend.terminal import STDERR, Terminal
from bottle_fsm.bottle import ExecResult, Owner
from bottle_fsm.errors import BackendError, TransientError
from bottle_fsm.failpoints import hit
from bottle_fsm.places import AGENT_GID, AGENT_UID
from bottle_fsm.transfer import ROOT_ENV, SHELL, Call, ExecBottle, is_orphan

USERS: Final[Mapping[Owner, str]] = {"agent": f"{AGENT_UID}:{AGENT_GID}", "root": "0:0"}
OUTPUT_LIMIT: Final = 64 << 20
"""Bytes that one command may write; a runaway agent must not fill the launcher's memory."""
_EXIT_CODE_SECONDS: Final = 5.0


class FloodError(Exception):
    """A command writes more than anybody will read; never leaves this module."""


class DockerBottle(ExecBottle):
    """A container, by id: a new container of the same name is another bottle."""

    def __init__(self, engine: Engine, container_id: str, *, name: str, users: Mapping[Owner, str] = USERS) -> None:
        self._engine = engine
        self._id = container_id
        self._name = name
        self._users = users

    @property
    def container_id(self) -> str:
        """Return the engine's id of the container."""
        return self._id

    def running_since(self) -> str:
        """Return when the container was last started, in the engine's own words; another start, another text."""
        with self._engine.guarded(f"inspect {self._name}") as api:
            return str(api.inspect_container(self._id)["State"]["StartedAt"])

    @property
    def place(self) -> str:
        """Return the container's name."""
        return self._name

    def run(self, call: Call) -> ExecResult:
        """Run one process to its end; see `ExecBottle.run`."""
        deadline = time.monotonic() + call.seconds
        with self._engine.guarded(f"exec in {self._name}") as api:
            exec_id = self._create(call.argv, call=call)
            stream = ExecStream(api, exec_id, tty=False)
            hit("exec.started", self._name)
            try:
                outputs = self._collect(stream, call, deadline)
            except FloodError:
                self._end(call)
                raise BackendError(f"a command wrote more than {OUTPUT_LIMIT >> 20} MiB", place=self._name) from None
            finally:
                stream.close()
        if outputs is None:
            self._end(call)
            raise TimeoutError(call.argv[0])
        return ExecResult(self._exit_code(exec_id), *outputs)

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        """Connect this process's terminal or pipes to a command inside; return its exit code."""
        with self._engine.guarded(f"exec in {self._name}") as api:
            exec_id = api.exec_create(
                self._id,
                [SHELL, "-c", inside.INTERACT, "bottle-session", *argv],
                stdin=True,
                tty=tty,
                user=self._users["agent"],
                workdir=workdir,
            )["Id"]
            stream = ExecStream(api, exec_id, tty=tty)

            def resize(rows: int, columns: int) -> None:
                with contextlib.suppress(Exception):  # the command may have ended in between
                    api.exec_resize(exec_id, height=rows, width=columns)

            try:
                Terminal(stream, tty=tty, resize=resize).run()
            finally:
                stream.close()
        return self._exit_code(exec_id)

    def settle(self) -> int:
        """End every command of a launcher that died, and return how many there were; people's sessions stay."""
        with self._engine.guarded(f"inspect {self._name}") as api:
            running = api.inspect_container(self._id).get("ExecIDs") or []
            found = [api.exec_inspect(exec_id) for exec_id in running]
        ended = 0
        for item in found:
            config = item.get("ProcessConfig") or {}
            marks = [a for a in config.get("arguments") or [] if a.startswith(inside.MARK_PREFIX)]
            mark = marks[0].removeprefix(inside.MARK_PREFIX) if marks else ""
            if not item.get("Running") or not mark or not is_orphan(mark):
                continue
            as_root = str(config.get("user", "")) == self._users["root"]
            self.kill_marked(mark, "root" if as_root else "agent")
            ended += 1
        return ended

    def _end(self, call: Call) -> None:
        """Kill what a call started; one without a mark is bounded by what it is."""
        if call.mark:
            self.kill_marked(call.mark, call.user)

    def kill_marked(self, mark: str, user: Owner) -> None:
        """Kill what carries a mark, as the user it runs as: without capabilities root kills nobody else's."""
        argv = (SHELL, "-c", inside.KILL, "bottle-kill", mark)
        call = Call(argv=argv, user=user, seconds=10.0, mark="", env=ROOT_ENV if user == "root" else {})
        with contextlib.suppress(TimeoutError):
            self._run_plain(call)

    def _run_plain(self, call: Call) -> None:
        deadline = time.monotonic() + call.seconds
        with self._engine.guarded(f"exec in {self._name}") as api:
            stream = ExecStream(api, self._create(call.argv, call=call), tty=False)
            try:
                self._collect(stream, call, deadline)
            finally:
                stream.close()

    def _create(self, argv: Sequence[str], *, call: Call) -> str:
        with self._engine.guarded(f"exec in {self._name}") as api:
            created = api.exec_create(
                self._id,
                list(argv),
                stdin=call.stdin is not None,
                user=self._users[call.user],
                environment=dict(call.env),
                workdir=call.workdir,
            )
        return str(created["Id"])

    def _collect(self, stream: ExecStream, call: Call, deadline: float) -> tuple[bytes, bytes] | None:
        """Return both outputs, None when the deadline passed."""
        pump = Pump(stream)
        if call.stdin is not None:
            pump.feed(call.stdin, length=call.length)
        outputs: dict[bool, bytearray] = {False: bytearray(), True: bytearray()}
        while True:
            try:
                frame = pump.next(deadline - time.monotonic())
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                return None
            if frame is None:
                return bytes(outputs[False]), bytes(outputs[True])
            number, data = frame
            if number != STDERR and call.sink is not None:
                call.sink.write(data)
            else:
                outputs[number == STDERR] += data
                if len(outputs[number == STDERR]) > OUTPUT_LIMIT:
                    raise FloodError

    def _exit_code(self, exec_id: str) -> int:
        """Return the exit code; outputs may be closed a moment before the engine knows it."""
        deadline = time.monotonic() + _EXIT_CODE_SECONDS
        with self._engine.guarded(f"exec in {self._name}") as api:
            while time.monotonic() < deadline:
                found = api.exec_inspect(exec_id)
                if not found.get("Running") and found.get("ExitCode") is not None:
                    return int(found["ExitCode"])
                time.sleep(0.02)
        raise TransientError("a command closed its outputs but did not end", place=self._name)
