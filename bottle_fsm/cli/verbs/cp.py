"""`bottle-fsm cp`: files into a bottle, or out of one."""

from __future__ import annotations

import os
import posixpath
import shutil
from pathlib import Path

import click

from bottle_fsm.bottle import Bottle
from bottle_fsm.cli.app import app_of
from bottle_fsm.cli.door import Verb
from bottle_fsm.cli.target import reach
from bottle_fsm.errors import UsageError
from bottle_fsm.places import WORKSPACE


@click.command("cp", cls=Verb, short_help="Copy files into a bottle, or out of one.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--force", is_flag=True, help="Replace a file or directory of this host; reach a bottle that is not ready."
)
@click.pass_context
def command(context: click.Context, /, *, source: str, target: str, force: bool) -> int:
    """Copy a file or a directory tree into a bottle, or out of one. One side is BOTTLE:PATH.

    A relative PATH starts from the workspace. If DST is a directory, the copy goes into it; SRC/. means a directory's
    content. A host path with a colon is written as ./NAME. What is copied in belongs to the agent.
    """
    inward, outward = _split(target), _split(source)
    if (inward is None) == (outward is None):
        raise UsageError("one side must be BOTTLE:PATH, and only one", place="SRC DST")
    app = app_of(context)
    if inward is not None:
        bottle = reach(app, inward[0], unready=force).bottle()
        _copy_in(bottle, source, inward[1])
    elif outward is not None:
        bottle = reach(app, outward[0], unready=force).bottle()
        _copy_out(bottle, _inside(outward[1]), Path(target), force=force)
    return 0


def _split(text: str) -> tuple[str, str] | None:
    """Return bottle and path; None for a host path."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and name and not name.startswith((".", "/")) else None


def _inside(path: str) -> str:
    return posixpath.normpath(posixpath.join(WORKSPACE, path))


def _copy_in(bottle: Bottle, source: str, path: str) -> None:
    origin = Path(source)
    if not origin.exists():
        raise UsageError("there is no such file or directory", place=source)
    target = _inside(path)
    content_only = source.endswith("/.") or source == "."
    if not content_only and (path.endswith("/") or not path or _is_directory(bottle, target)):
        target = posixpath.join(target, origin.resolve().name)
    bottle.copy_in(origin, target, mode=origin.stat().st_mode & 0o777)


def _is_directory(bottle: Bottle, path: str) -> bool:
    """Ask inside, by a word rather than an exit code: only a real shell says it."""
    return bottle.exec(["sh", "-c", '[ -d "$1" ] && echo directory', "sh", path]).text == "directory"


def _copy_out(bottle: Bottle, path: str, target: Path, *, force: bool) -> None:
    if target.is_dir():
        target /= posixpath.basename(path)
    there = target.exists() or target.is_symlink()
    if there and not force:
        raise UsageError("exists on this host", place=str(target), hint="--force replaces it")
    if not target.parent.is_dir():
        raise UsageError("there is no such directory", place=str(target.parent))
    aside = target.with_name(f".{target.name}.bottle-fsm-{os.getpid()}")
    try:
        bottle.copy_out(path, aside)
        if there:
            _remove(target)
        aside.rename(target)
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
