"""A directory tree as data: what lies in it, with modes and digests, on the host and inside. One digest for both.

Symbolic links that leave the tree, files that are no files (sockets, devices), set-user-id bits and names with control
characters are refused. Not its duty: copying.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ProvisionError
from bottle_fsm.provision.shell import checked

MAX_BYTES: Final = 64 * 1024 * 1024
"""A skill is a few texts and scripts; more than this is a mistake in the manifest."""

_LIST: Final = """
[ -d "$1" ] || exit 0
cd "$1" || exit 1
find . -type f -exec stat -c 'm %a %n' {} +
find . -type f -exec sha256sum {} + | sed 's/^/s /'
find . -type l -exec sh -c 'for link; do printf "l %s\\t%s\\n" "$(readlink "$link")" "$link"; done' sh {} +
"""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file or link of a tree: its path below the root, permission bits, and SHA-256 or the link's target."""

    path: str
    mode: int
    digest: str
    target: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """All files and links of a tree, sorted by path."""

    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over paths, permission bits, contents and link targets: equal trees, equal digests."""
        lines = (f"{e.path}\0{e.mode:o}\0{e.digest}\0{e.target}\n" for e in sorted(self.entries))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def size(self) -> int:
        """Bytes in all files together; counted on the host only."""
        return sum(e.size for e in self.entries)


def read_tree(root: Path) -> Tree:
    """Read a tree of this host.

    Raises:
        ProvisionError: something in it is refused, or it cannot be read.
    """
    entries: list[Entry] = []
    total = 0
    try:
        for path in _walk(root):
            entries.append(_entry(root, path))
            total += entries[-1].size
            if total > MAX_BYTES:
                raise ProvisionError(f"larger than {MAX_BYTES >> 20} MiB", place=str(root))
    except OSError as error:
        raise ProvisionError(f"cannot be read: {error.strerror}", place=str(error.filename or root)) from error
    return Tree(tuple(sorted(entries)))


def tree_inside(bottle: Bottle, root: str) -> Tree | None:
    """Read a tree inside, as the agent sees it; None when it is not there or holds nothing."""
    result = checked(bottle, _LIST, root, what=root)
    modes: dict[str, int] = {}
    digests: dict[str, str] = {}
    links: list[Entry] = []
    for line in result.stdout.decode("utf-8", "surrogateescape").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "m":
            mode, _, path = rest.partition(" ")
            modes[_plain(path)] = int(mode, 8)
        elif kind == "s":
            digests[_plain(rest[66:])] = rest[:64]
        elif kind == "l":
            target, _, path = rest.partition("\t")
            links.append(Entry(_plain(path), 0, "", target))
    files = [Entry(path, mode, digests.get(path, "")) for path, mode in modes.items()]
    return Tree(tuple(sorted(files + links))) if files or links else None


def _plain(path: str) -> str:
    return path.removeprefix("./")


def _walk(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for directory, names, files in os.walk(root, onerror=fail):
        names.sort()
        here = Path(directory)
        yield from (here / name for name in names if (here / name).is_symlink())
        yield from (here / name for name in sorted(files))


def _entry(root: Path, path: Path) -> Entry:
    name = path.relative_to(root).as_posix()
    if not name.isprintable() or "\\" in name:
        raise ProvisionError(f"a name with control characters or backslashes: {name!r}", place=str(root))
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return Entry(name, 0, "", _inner_target(root, path))
    if not stat.S_ISREG(info.st_mode):
        raise ProvisionError("neither a file nor a directory nor a link", place=str(path))
    if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise ProvisionError("has a set-user-id or set-group-id bit", place=str(path), hint=f"chmod a-s {path}")
    content = path.read_bytes()
    return Entry(name, stat.S_IMODE(info.st_mode), hashlib.sha256(content).hexdigest(), size=len(content))


def _inner_target(root: Path, path: Path) -> str:
    """Return a link's target if every step of it stays below the root, by name and in fact."""
    target = str(path.readlink())
    parts: list[str] = list(path.relative_to(root).parent.parts)
    leaves = PurePosixPath(target).is_absolute()
    for part in PurePosixPath(target).parts:
        leaves = leaves or (part == ".." and not parts)
        if part == ".." and parts:
            parts.pop()
        elif part != "..":
            parts.append(part)
    if leaves or not path.resolve().is_relative_to(root.resolve()):
        raise ProvisionError(
            f"the link leaves the tree: it points to {target}", place=str(path), hint="Copy the file into the tree"
        )
    return target
