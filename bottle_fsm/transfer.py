"""ExecBottle: files in and out of a bottle over commands' standard input and output only.

Its duty: `Bottle`'s copies and bounded commands, on top of one primitive that a backend gives: run a process inside.
Not its duty: how a process gets inside. Copies never use an engine's archive calls: those follow links that the agent
planted, as root, and write below a tmpfs where nobody sees it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from bottle_fsm import inside
from bottle_fsm.archive import Packed, pack_bytes, pack_file, pack_tree, unpack
from bottle_fsm.bottle import ExecResult, Owner
from bottle_fsm.errors import BackendError, ProvisionError, StepTimeoutError
from bottle_fsm.places import AGENT_HOME, RUN_DIR, WORKSPACE

COPY_SECONDS: Final = 60.0
COPY_RATE: Final = 1 << 20
"""A copy may take `COPY_SECONDS`, and a second more for each so many bytes."""
GRACE: Final = inside.KILL_AFTER + 8.0
"""Seconds after a command's own timeout in which the killed command must have left."""
SHELL: Final = "/bin/sh"
ROOT_ENV: Final[Mapping[str, str]] = MappingProxyType(
    {"HOME": "/root", "USER": "root", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
)
"""For commands run as root: an image's PATH may begin with a directory of the agent's, full of its own `sh`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One process to run inside, to its end.

    Attributes:
        argv: the complete argument list; nothing secret.
        user: as whom. stdin: bytes to send, None for none. length: how many. env: variables on top of the bottle's.
        workdir: None for the bottle's default. seconds: after these the backend gives up and ends the process itself.
        mark: the value of `MARK_VARIABLE`, by which the process and its children are found again.
        sink: takes standard output as it comes; None collects it.
    """

    argv: tuple[str, ...]
    user: Owner
    seconds: float
    mark: str
    stdin: IO[bytes] | None = field(default=None, repr=False)
    length: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    sink: IO[bytes] | None = None


class ExecBottle(ABC):
    """A bottle whose only door is "run this inside"."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Return what errors call this bottle."""

    @abstractmethod
    def run(self, call: Call) -> ExecResult:
        """Run one process; raise `TimeoutError` when `call.seconds` are over, having ended it inside."""

    @abstractmethod
    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        """Connect this process's terminal (or pipes) to a command inside and return its exit code."""

    def exec(  # noqa: PLR0913 - the parts of a process: what, as whom, where, with what, for how long
        self,
        argv: Sequence[str],
        *,
        user: Owner = "agent",
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        timeout: float = 60.0,
    ) -> ExecResult:
        """Run a command to its end and return what it left; see `Bottle.exec`."""
        packed = None if stdin is None else pack_bytes(stdin)
        return self._bounded(argv, user=user, packed=packed, env=env or {}, workdir=workdir, timeout=timeout)

    def copy_in(self, source: bytes | Path, target: str, *, mode: int = 0o644, owner: Owner = "agent") -> str:
        """Put bytes, a host file or a directory tree at `target`; see `Bottle.copy_in`.

        A tree that meets an existing directory is merged into it: its files replace files of the same name, others
        stay.
        """
        checked_path(target)
        packed, script = _packed(source)
        with packed.stream:
            # The name of the temporary file depends on the target alone: an attempt after a crash takes its place.
            temporary = hashlib.sha256(target.encode()).hexdigest()[:16]
            arguments = (target, packed.digest, f"{mode:o}", temporary)
            seconds = COPY_SECONDS + packed.length / COPY_RATE
            result = self._bounded(_script(script, *arguments), user=owner, packed=packed, timeout=seconds)
        if result.code != 0:
            reason = result.stderr.decode(errors="replace").strip() or f"exit code {result.code}"
            raise ProvisionError(f"cannot copy to {target}: {reason}", place=self.place)
        return packed.digest

    def copy_out(self, source: str, target: Path) -> None:
        """Bring a file or directory tree to the host path `target`; see `Bottle.copy_out`."""
        checked_path(source)
        with tempfile.TemporaryFile() as stream:
            for user in _readers(source):
                stream.seek(0)
                stream.truncate()
                result = self._bounded(_script(inside.OUT, source), user=user, sink=stream, timeout=3600.0)
                if result.code != inside.NOT_FOUND:
                    break
            changed = result.code == 1 and b"changed as we read it" in result.stderr
            if result.code != 0 and not changed:
                reason = result.stderr.decode(errors="replace").strip()
                raise ProvisionError(f"cannot copy {source} out: {reason}", place=self.place)
            stream.seek(0)
            unpack(stream, target)

    def read_file(self, path: str) -> bytes:
        """Return a file's bytes; root reads what is root's and the agent what is the agent's, none has a capability."""
        checked_path(path)
        for user in _readers(path):
            result = self._bounded(_script(inside.READ, path), user=user)
            if result.code == 0:
                return result.stdout
        raise ProvisionError(f"cannot read {path}: {result.stderr.decode(errors='replace').strip()}", place=self.place)

    def _bounded(  # noqa: PLR0913 - the parts of a process, as in `exec`
        self,
        argv: Sequence[str],
        *,
        user: Owner,
        packed: Packed | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        timeout: float = 60.0,
        sink: IO[bytes] | None = None,
    ) -> ExecResult:
        """Run a command under `timeout` inside, so that it ends in time even when this process is gone by then."""
        mark = new_mark()
        length = "-1" if packed is None else str(packed.length)
        wrapped = (SHELL, "-c", inside.RUN, inside.MARK_PREFIX + mark, length, f"{timeout:g}", *argv)
        as_root = user == "root"
        call = Call(
            argv=wrapped,
            user=user,
            seconds=timeout + GRACE,
            mark=mark,
            stdin=None if packed is None else packed.stream,
            length=0 if packed is None else packed.length,
            env={**(ROOT_ENV if as_root else {}), **(env or {}), inside.MARK_VARIABLE: mark},
            workdir=workdir or ("/" if as_root else None),
            sink=sink,
        )
        began = time.monotonic()
        try:
            result = self.run(call)
        except TimeoutError as error:
            raise self._too_long(argv, timeout) from error
        if result.code in inside.TIMEOUT_CODES and time.monotonic() - began >= timeout:
            raise self._too_long(argv, timeout)
        return result

    def _too_long(self, argv: Sequence[str], timeout: float) -> BackendError:
        return StepTimeoutError(f"`{argv[0]}` ran longer than {timeout:g} s and was killed inside", place=self.place)


def checked_path(path: str) -> None:
    """Refuse a path inside that is not absolute and plain.

    Raises:
        ProvisionError: see above.
    """
    parts = path.split("/")
    if not path.startswith("/") or path.endswith("/") or {".", ".."} & set(parts) or re.search(r"[\0\n]", path):
        raise ProvisionError(f"{path!r} is no plain absolute path", hint="Write it from / on, without . and ..")


def new_mark() -> str:
    """Return a fresh mark for one command: which boot and process of ours started it, and a number."""
    return f"{_boot()}-{os.getpid()}-{secrets.token_hex(8)}"


def is_orphan(mark: str) -> bool:
    """Say whether the process that started a command is gone; a mark that makes no sense is nobody's."""
    boot, _, rest = mark.partition("-")
    pid = rest.partition("-")[0]
    if boot != _boot() or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@functools.cache
def _boot() -> str:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:  # a host without one: a process id alone has to do
        return "0"
    return text.replace("-", "")[:8]


def _script(script: str, *arguments: str) -> tuple[str, ...]:
    return (SHELL, "-c", script, "sh", *arguments)


def _packed(source: bytes | Path) -> tuple[Packed, str]:
    if isinstance(source, bytes):
        return pack_bytes(source), inside.PUT_FILE
    if source.is_dir():
        return pack_tree(source), inside.PUT_TREE
    return pack_file(source), inside.PUT_FILE


def _readers(path: str) -> tuple[Owner, Owner]:
    """Return who reads a path first: without capabilities, root cannot look into what the agent keeps to itself."""
    agents = any(path == place or path.startswith(f"{place}/") for place in (AGENT_HOME, WORKSPACE, RUN_DIR))
    return ("agent", "root") if agents else ("root", "agent")
