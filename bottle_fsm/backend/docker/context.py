"""The build context of an image of ours, as a tar file whose bytes depend on nothing but its contents.

Not its duty: what belongs into which image.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from bottle_fsm.errors import BackendError

_SKIPPED_DIRECTORIES = {"__pycache__"}


def files_below(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield relative name and path of each regular file below a directory, sorted, without compiled Python."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_file() and not path.is_symlink() and not _SKIPPED_DIRECTORIES.intersection(name.parts):
            yield name.as_posix(), path


def digest_of(files: dict[str, Path], *facts: str) -> str:
    """Return the SHA-256 (hex) over names, modes and contents of files, and over further facts."""
    whole = hashlib.sha256("\0".join(facts).encode())
    for name, path in sorted(files.items()):
        executable = bool(path.stat().st_mode & 0o100)
        whole.update(f"\0{name}\0{executable}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return whole.hexdigest()


class ContextWriter:
    """Writes one build context. All owners are root, all times zero, modes 0644 or 0755."""

    def __init__(self, target: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by close()

    def add_file(self, name: str, path: Path) -> None:
        """Add one file under a name relative to the context."""
        with path.open("rb") as content:
            self._add(name, content, path.stat().st_size, executable=bool(path.stat().st_mode & 0o100))

    def add_tree(self, prefix: str, directory: Path, *, without: tuple[str, ...] = ()) -> None:
        """Add the regular files below a directory, but not those whose first name is in `without`."""
        for name, path in files_below(directory):
            if PurePosixPath(name).parts[0] not in without:
                self.add_file(f"{prefix}/{name}", path)

    def add_npm(self, prefix: str, tarball: Path) -> None:
        """Add the contents of an npm tarball, whose names all begin with one directory, usually `package`.

        Raises:
            BackendError: it is no tarball, or a name in it leads outside.
        """
        try:
            with tarfile.open(tarball, mode="r:gz") as source:
                for member in source:
                    self._add_member(prefix, source, member)
        except tarfile.TarError as error:
            raise BackendError(f"not a tarball: {error}", place=str(tarball), hint="Remove it and try again") from error

    def _add_member(self, prefix: str, source: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = PurePosixPath(member.name).parts[1:]
        if ".." in parts or PurePosixPath(member.name).is_absolute():
            raise BackendError(f"a name in it leads outside: {member.name}", place=str(source.name))
        content = source.extractfile(member) if member.isreg() and parts else None
        if content is not None:
            self._add("/".join([prefix, *parts]), content, member.size, executable=bool(member.mode & 0o100))

    def _add(self, name: str, content: IO[bytes], size: int, *, executable: bool) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        info.mode = 0o755 if executable else 0o644
        self._tar.addfile(info, content)

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()
