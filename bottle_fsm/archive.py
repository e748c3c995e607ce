"""Tar streams that are safe in both directions: packed the same for the same tree, unpacked without trusting a name.

Its duty: host trees to deterministic bytes with a digest, and bytes from inside a bottle back to a host directory.
Not its duty: moving the bytes; `transfer` and the backends do that.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bottle_fsm.errors import ProvisionError

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes ready to be sent: an anonymous file at its start, its length and its digest."""

    stream: IO[bytes]
    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Member:
    """A file or directory that an archive for the engine shall hold; `content` None means a directory."""

    content: bytes | None
    mode: int
    uid: int = 0
    gid: int = 0


def pack_bytes(content: bytes) -> Packed:
    """Return bytes as they are, measured."""
    return Packed(io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def pack_file(source: Path) -> Packed:
    """Return one host file; it is read once, so that length and digest are those of the bytes that are sent."""
    with _scratch() as stream:
        with source.open("rb") as file:
            shutil.copyfileobj(file, stream, CHUNK)
        return _measured(stream)


def pack_tree(root: Path) -> Packed:
    """Return a directory tree as a tar whose bytes depend on names, modes, links and contents only.

    Raises:
        ProvisionError: a link leaves the tree, or something is neither file, directory nor link.
    """
    with _scratch() as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in _walk(root):
                _add(tar, root, path)
        return _measured(stream)


def tree_digest(root: Path) -> str:
    """Return the digest that `Bottle.copy_in` returns for a directory tree."""
    packed = pack_tree(root)
    packed.stream.close()
    return packed.digest


def pack_members(members: Mapping[str, Member]) -> bytes:
    """Return a small deterministic tar from names and contents, for the engine's archive endpoint."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(members):
            member = members[name]
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
            if member.content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                continue
            info.size = len(member.content)
            tar.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def unpack(stream: IO[bytes], target: Path) -> None:
    """Unpack a tar whose single top entry becomes `target`, which must not exist.

    A link that leaves the tree becomes a plain file that holds the link's text, as git does where it cannot link: work
    is not lost, and nothing on the host can be reached through it. Pipes are left out.

    Raises:
        ProvisionError: a name is absolute or climbs, a member is a device, the stream is no tar, or `target` exists.
    """
    if os.path.lexists(target):
        raise ProvisionError("exists already", place=str(target), hint="Name a path that does not exist yet.")
    with tempfile.TemporaryDirectory(prefix=".bottle-out-", dir=target.parent) as stage:
        top = Path(stage) / "out"
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                links = _unpack_files(tar, top)
        except tarfile.TarError as error:
            raise ProvisionError(f"what came out of the bottle is no archive: {error}", place=str(target)) from error
        for path, text in links:
            _make_link(top, path, text)
        if not os.path.lexists(top):
            raise ProvisionError("nothing came out of the bottle", place=str(target))
        top.rename(target)


@contextlib.contextmanager
def _scratch() -> Iterator[IO[bytes]]:
    """Lend an anonymous file that outlives the block, unless the block fails."""
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - the caller streams from it and closes it
    try:
        yield stream
    except BaseException:
        stream.close()
        raise


def _measured(stream: IO[bytes]) -> Packed:
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    stream.seek(0)
    return Packed(stream, length, digest.hexdigest())


def _walk(root: Path) -> Iterator[Path]:
    yield root
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _add(tar: tarfile.TarFile, root: Path, path: Path) -> None:
    found = path.lstat()
    relative = path.relative_to(root).as_posix()
    info = tarfile.TarInfo("." if relative == "." else f"./{relative}")
    info.mode = stat.S_IMODE(found.st_mode) & 0o777
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, _inner_link(root, path), 0o777
        tar.addfile(info)
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb", opener=_no_follow) as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
    else:
        raise ProvisionError("is neither file, directory nor link", place=str(path), hint="Take it out of the tree.")


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _inner_link(root: Path, path: Path) -> str:
    text = str(path.readlink())
    if not stays_inside(path.relative_to(root).parent.as_posix(), text) or not _resolves_inside(root, path):
        raise ProvisionError(
            f"is a symbolic link that leaves the tree, to {text}", place=str(path), hint="Copy what it points to."
        )
    return text


def _resolves_inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links: it leads nowhere, so not outside either
        return True


def stays_inside(folder: str, text: str) -> bool:
    """Say whether a link in `folder` (relative to the tree's top) with this text points into the tree."""
    if text.startswith("/"):
        return False
    depth = len([part for part in PurePosixPath(folder).parts if part != "."])
    for part in PurePosixPath(text).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


def _unpack_files(tar: tarfile.TarFile, top: Path) -> list[tuple[Path, str]]:
    """Write directories and files below `top`; return the links, which are made last so that nothing follows them."""
    links: list[tuple[Path, str]] = []
    modes: list[tuple[Path, int]] = []
    for member in tar:
        path = top.joinpath(*_inner_parts(member.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            path.mkdir(exist_ok=True)
            modes.append((path, member.mode & 0o777))
        elif member.issym():
            links.append((path, member.linkname))
        elif member.islnk():
            _copy(top.joinpath(*_inner_parts(member.linkname)), path)
        elif member.isreg():
            _write(tar, member, path)
        elif not member.isfifo():
            raise ProvisionError("is a device; nothing was copied", place=member.name)
    for path, mode in reversed(modes):
        path.chmod(mode | stat.S_IRWXU)  # else its owner could not remove it again
    return links


def _inner_parts(name: str) -> tuple[str, ...]:
    """Return a member's path below the single top entry."""
    path = PurePosixPath(name)
    parts = tuple(part for part in path.parts if part != ".")
    if path.is_absolute() or ".." in parts or not parts:
        raise ProvisionError(f"the archive holds the unsafe name {name!r}; nothing was copied")
    return parts[1:]


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ProvisionError("the archive holds a file without content", place=member.name)
    with open(path, "xb", opener=_no_follow) as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
    path.chmod(member.mode & 0o777)


def _copy(source: Path, target: Path) -> None:
    if not stat.S_ISREG(source.lstat().st_mode):
        raise ProvisionError("the archive holds a hard link to something that is no file", place=target.name)
    target.write_bytes(source.read_bytes())
    target.chmod(stat.S_IMODE(source.lstat().st_mode))


def _make_link(top: Path, path: Path, text: str) -> None:
    folder = path.relative_to(top).parent.as_posix() if path != top else "."
    if path != top and stays_inside(folder, text):
        path.symlink_to(text)
    else:
        path.write_text(text, errors="surrogateescape")
