"""Run a shell script inside a bottle, with one meaning of failure. Knows `Bottle`, nothing of a backend.

Scripts are POSIX shell: an image may hold only busybox. Arguments go by position and are never part of the script's
text, so no quoting of ours can be wrong; what is secret goes by `stdin`.
"""

from __future__ import annotations

from typing import Final

from bottle_fsm.bottle import Bottle, ExecResult, Owner
from bottle_fsm.errors import ProvisionError

TIMEOUT: Final = 120.0
_SHOWN_LINES: Final = 6


def shell(
    bottle: Bottle,
    script: str,
    *arguments: str,
    user: Owner = "agent",
    stdin: bytes | None = None,
    timeout: float = TIMEOUT,
) -> ExecResult:
    """Run a script with arguments `$1`, `$2`, … and return what it left, whatever its exit code."""
    return bottle.exec(["sh", "-c", script, "bottle", *arguments], user=user, stdin=stdin, timeout=timeout)


def checked(  # noqa: PLR0913 - as `shell`, and what to say when it fails
    bottle: Bottle,
    script: str,
    *arguments: str,
    what: str,
    user: Owner = "agent",
    stdin: bytes | None = None,
    timeout: float = TIMEOUT,
    hint: str | None = None,
) -> ExecResult:
    """Run a script that must succeed.

    Raises:
        ProvisionError: it did not; the message says `what` was being done and shows the last lines of its errors.
    """
    result = shell(bottle, script, *arguments, user=user, stdin=stdin, timeout=timeout)
    if result.code != 0:
        raise ProvisionError(f"exit code {result.code}: {last_lines(result)}", place=what, hint=hint)
    return result


def last_lines(result: ExecResult) -> str:
    """Return the last lines of a command's errors (of its output, when it wrote none) as one line of printable text."""
    text = (result.stderr.strip() or result.stdout.strip() or b"no output").decode(errors="replace")
    joined = " / ".join(line.strip() for line in text.splitlines()[-_SHOWN_LINES:])
    return "".join(character if character.isprintable() else "?" for character in joined)
