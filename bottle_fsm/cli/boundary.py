"""The one error boundary: what went wrong, in words on standard error, and the process's exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final

import click

from bottle_fsm.cli.app import App
from bottle_fsm.cli.streams import forget, tolerate_encodings, write_error
from bottle_fsm.errors import BottleError, ManifestError, Problem
from bottle_fsm.safetext import safe, safe_block

_SIGNAL: Final = 128
_SIGINT: Final = 2
_SIGPIPE: Final = 13


def guarded(app: App, run: Callable[[App], int]) -> int:
    """Run a command line; return its exit code, whatever happens."""
    tolerate_encodings()
    try:
        code = run(app)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _failed(app, _usage(error), 1, error)
    except BottleError as error:
        return _failed(app, describe(error), exit_code_of(error), error)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(app)
    except Exception as error:  # noqa: BLE001 - the boundary: nothing leaves it without a sentence
        return _reader_gone() if isinstance(error, BrokenPipeError) else _failed(app, _internal(app, error), 1, error)
    return code


def describe(error: BottleError) -> str:
    """Return an error as people read it: a line for each problem, each with place, problem and hint."""
    if isinstance(error, ManifestError):
        return "\n".join(_line(problem) for problem in error.problems)
    return _line(Problem(error.place or "", error.problem, error.hint or ""))


def exit_code_of(error: BottleError) -> int:
    """Return an error's exit code; a signal gives 128 + its number."""
    signum: int = getattr(error, "signum", 0)
    return _SIGNAL + signum if signum else error.exit_code


def _line(problem: Problem) -> str:
    place = f"{safe(problem.place)}: " if problem.place else ""
    return " ".join(
        [f"error: {place}{_sentence(problem.problem)}", *([_sentence(problem.hint)] if problem.hint else [])]
    )


def _sentence(text: str) -> str:
    shown = safe_block(text)
    return shown if shown.endswith((".", "?", "!")) else f"{shown}."


def _usage(error: click.ClickException) -> str:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" Try `{context.command_path} --help`." if context else ""
    return f"error: {safe_block(error.format_message())}{hint}"


def _internal(app: App, error: Exception) -> str:
    more = "" if app.debug else " Run it again with --debug to see where. What was committed to the journal is safe."
    return f"error: internal: {safe(type(error).__name__)}: {safe_block(error)}.{more}"


def _failed(app: App, text: str, code: int, error: BaseException) -> int:
    if app.debug:
        traceback.print_exception(error)
    write_error(text)
    return app.failure_code or code


def _interrupted(app: App) -> int:
    signum = app.signum or _SIGINT
    if app.signum:
        write_error(
            "stopped at once. The journal is safe: `bottle-fsm status` shows what was interrupted, `bottle-fsm resume` "
            "goes on, `bottle-fsm destroy` takes it away."
        )
    else:
        write_error("interrupted.")
    _leave_threads(_SIGNAL + signum)
    return _SIGNAL + signum


def _leave_threads(code: int) -> None:
    """End the process now when other launches still run in threads: a second signal means at once, and that is safe."""
    others = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    if not others:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _reader_gone() -> int:
    """End quietly, as programs do whose reader left."""
    forget(sys.stdout)
    return _SIGNAL + _SIGPIPE
