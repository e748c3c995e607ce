"""Bottle: the handle into a running bottle, all that provisioners, gate, exec, attach and cp know of a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Owner = Literal["agent", "root"]


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command inside a bottle left: exit code and both outputs, as bytes."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Return standard output as text, undecodable bytes replaced, without the last line end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class Bottle(Protocol):
    """A running bottle. Every method raises `BackendError` when the bottle is gone or the engine does not answer."""

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
        """Run a command to its end and return what it left.

        The command has the bottle's environment (proxy and trust variables, the agent's secrets), `env` on top.
        `env` is visible on the engine's side: nothing secret goes there; what is secret goes by `stdin`.

        Raises:
            StepTimeoutError: the command ran longer than `timeout` seconds; it was killed inside, too.
        """
        ...

    def copy_in(self, source: bytes | Path, target: str, *, mode: int = 0o644, owner: Owner = "agent") -> str:
        """Put bytes, a host file, or a host directory tree at the absolute path `target`; return the SHA-256 digest.

        Written aside and moved into place when its digest was verified inside. A directory keeps its files' modes
        (`mode` then counts for nothing); a symbolic link that leaves the tree is refused. As `agent` the writing
        process runs as the agent's user, so that a link planted by the agent leads nowhere that the agent could not
        write itself.

        Raises:
            ProvisionError: the digest inside differs, or a link leaves the tree.
        """
        ...

    def copy_out(self, source: str, target: Path) -> None:
        """Bring a file or a directory tree of the bottle to the host path `target`, which must not exist yet."""
        ...

    def read_file(self, path: str) -> bytes:
        """Return a file's bytes, read as root.

        Raises:
            ProvisionError: there is no such file.
        """
        ...

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        """Connect this process's terminal (or pipes) to a command inside and return its exit code."""
        ...
