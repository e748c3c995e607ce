"""A short-lived sandbox beside the agent's, in which one command of ours may write /etc; it ends with its launcher.

Its duty: that no such command runs unless its launcher lives, and none outlives it. Not its duty: what it may write
(`sandbox`), and gathering what it says.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Final

from bottle_fsm.backend.local import seccomp
from bottle_fsm.backend.local.sandbox import SECCOMP, VARIABLES, variables
from bottle_fsm.backend.local.streams import Input, feed, frames
from bottle_fsm.backend.terminal import STDERR, STDOUT
from bottle_fsm.errors import BackendError
from bottle_fsm.failpoints import hit
from bottle_fsm.safetext import safe
from bottle_fsm.transfer import SHELL

READY: Final = b"ready\n"
GATE: Final = 'echo ready; read -r go && [ "$go" = go ] || exit 125; exec "$@"'
"""A launcher's death before bubblewrap has tied itself to it would leave the sandbox running; so the command waits for
a word that a launcher gives only after that."""
_END_SECONDS: Final = 5.0
_REASON_BYTES: Final = 2048


class Maintenance:
    """One command in its sandbox. `end` it, whatever happens."""

    def __init__(self, prefix: Sequence[str], argv: Sequence[str], env: Mapping[str, str], *, place: str) -> None:
        """Start the sandbox, with the command behind its gate; `prefix` is its own command line."""
        self._place = place
        in_read, in_write = os.pipe()
        self._input = Input(in_write)
        descriptor, settings = seccomp.sealed_fd(), os.memfd_create("variables", 0)
        given = {SECCOMP: str(descriptor), VARIABLES: str(settings)}
        try:
            with open(settings, "wb", closefd=False) as file:
                file.write(variables(env))
            os.lseek(settings, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                [
                    *(given.get(word, word) for word in prefix),
                    *(SHELL, "-c", GATE, "bottle-gate", *argv),
                ],
                stdin=in_read,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.defpath},
                pass_fds=(descriptor, settings),
                start_new_session=True,
                cwd="/",
                bufsize=0,
            )
        except BaseException:
            self._input.close()
            raise
        finally:
            os.close(in_read)
            os.close(descriptor)
            os.close(settings)
        output, errors = self._process.stdout, self._process.stderr
        assert output is not None  # noqa: S101 - asked for above
        assert errors is not None  # noqa: S101 - asked for above
        self._output, self._errors = output, errors

    def begin(self, deadline: float) -> None:
        """Wait until the sandbox is tied to this process, and let the command go.

        Raises:
            TimeoutError: the deadline passed. BackendError: the sandbox did not come up.
        """
        said = b""
        errors = b""
        sources = {self._output.fileno(): STDOUT, self._errors.fileno(): STDERR}
        for number, data in frames(sources, deadline, most=len(READY)):
            if number == STDOUT:
                said += data
            elif len(errors) < _REASON_BYTES:
                errors += data
            if said.startswith(READY):
                break
        if said != READY:
            reason = safe(errors.decode(errors="replace").strip()) or "it said nothing"
            raise BackendError(f"the sandbox for root's commands did not come up: {reason}", place=self._place)
        with contextlib.suppress(OSError):  # it ended already; its exit code tells
            self._input.write(b"go\n")
        hit("exec.started", self._place)

    def feed(self, source: IO[bytes] | None, length: int) -> None:
        """Send so many bytes to the command's input in the background, and then its end."""
        feed(self._input, source, length)

    def frames(self, deadline: float) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the outputs are closed; raise `TimeoutError` at the deadline."""
        return frames({self._output.fileno(): STDOUT, self._errors.fileno(): STDERR}, deadline)

    def exit_code(self, deadline: float) -> int:
        """Return the exit code; 128 and the signal's number where one ended it.

        Raises:
            TimeoutError: the deadline passed.
        """
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        return 128 - code if code < 0 else code

    def end(self) -> None:
        """End what still runs, and wait until nothing holds its outputs any more."""
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(TimeoutError):
                for _ in self.frames(time.monotonic() + _END_SECONDS):
                    pass
        self._process.wait()
        self._input.close()
        self._output.close()
        self._errors.close()
