"""SealedBottle: a real place without any network, for tests that need a `Bottle` but no engine (root and `unshare`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from bottle_fsm.bottle import ExecResult, Owner


class SealedBottle:
    """Commands run for real, in a network namespace of their own; files are this machine's."""

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: Owner = "agent",
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        timeout: float = 60.0,
    ) -> ExecResult:
        kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
        command = ["unshare", "--net", "--", *argv]
        done = subprocess.run(
            command, input=stdin or b"", capture_output=True, env=kept, cwd=workdir, timeout=timeout, check=False
        )
        return ExecResult(done.returncode, done.stdout, done.stderr)

    def copy_in(self, source: object, target: str, *, mode: int = 0o644, owner: Owner = "agent") -> str:
        raise AssertionError(f"nothing is asked to be put at {target}")

    def copy_out(self, source: str, target: object) -> None:
        raise AssertionError(f"nothing is asked from {source}")

    def read_file(self, path: str) -> bytes:
        raise AssertionError(f"nothing is asked from {path}")

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:
        raise AssertionError("nobody is at a terminal")
