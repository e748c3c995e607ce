"""FakeBottle: the handle into a simulated bottle. Files are kept in the world; a few commands are simulated.

The commands are those that need nothing but the simulated files: `true`, `false`, `exit`, `echo`, `cat`, `printenv`;
any other one is only named in the answer. Not its duty: users, permissions and time, which are not simulated.
"""

from __future__ import annotations

import base64
import hashlib
import io
import posixpath
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.archive import pack_tree, unpack
from bottle_fsm.backend.fake.world import FakeWorld
from bottle_fsm.bottle import ExecResult, Owner
from bottle_fsm.errors import BackendError, ProvisionError
from bottle_fsm.transfer import checked_path

_LINKS: Final = 8
"""How many links a path may lead through."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file, directory or link of the simulated bottle: `mode` holds its kind as `stat` knows it."""

    mode: int
    owner: str
    content: bytes

    def text(self) -> str:
        """Return it as the world keeps it."""
        return f"{self.mode:o} {self.owner} {base64.b64encode(self.content).decode()}"

    @classmethod
    def of(cls, text: str) -> _Entry:
        """Read it back."""
        mode, owner, content = text.split(" ")
        return cls(int(mode, 8), owner, base64.b64decode(content))


class FakeBottle:
    """The `Bottle` of the fake backend; see `bottle_fsm.bottle`."""

    def __init__(self, world: FakeWorld, agent_id: str, name: str) -> None:
        self._world = world
        self._id = agent_id
        self._name = name

    def exec(  # noqa: PLR0913 - the protocol's signature
        self,
        argv: Sequence[str],
        *,
        user: Owner = "agent",
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,  # noqa: ARG002 - no simulated command asks where it is
        timeout: float = 60.0,  # noqa: ARG002 - a simulated command takes no time
    ) -> ExecResult:
        """Simulate a command; see the module."""
        self._running()
        name, *arguments = argv
        commands: dict[str, Callable[[], ExecResult]] = {
            "true": lambda: ExecResult(0, b"", b""),
            "false": lambda: ExecResult(1, b"", b""),
            "exit": lambda: ExecResult(int(arguments[0]), b"", b""),
            "echo": lambda: ExecResult(0, f"{' '.join(arguments)}\n".encode(), b""),
            "cat": lambda: self._cat(arguments, stdin or b""),
            "printenv": lambda: _printenv(arguments, env or {}),
        }
        otherwise = ExecResult(0, f"simulated as {user}: {' '.join(argv)}\n".encode(), b"")
        return commands.get(name, lambda: otherwise)()

    def copy_in(self, source: bytes | Path, target: str, *, mode: int = 0o644, owner: Owner = "agent") -> str:
        """Keep bytes, a file or a tree in the world."""
        self._running()
        checked_path(target)
        if isinstance(source, Path) and source.is_dir():
            return self._keep_tree(source, target, owner)
        content = source if isinstance(source, bytes) else source.read_bytes()
        self._keep(target, _Entry(stat.S_IFREG | mode, owner, content))
        return hashlib.sha256(content).hexdigest()

    def copy_out(self, source: str, target: Path) -> None:
        """Bring a file, or all that lies below a path, back to the host."""
        self._running()
        checked_path(source)
        below = [p for p in self._world.paths(self._id) if p == source or p.startswith(f"{source}/")]
        if not below:
            raise ProvisionError(f"there is no {source}", place=self._name)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for path in below:
                _pack(tar, f"top{path[len(source) :]}", self._entry(path))
        stream.seek(0)
        unpack(stream, target)

    def read_file(self, path: str) -> bytes:
        """Return a kept file's bytes."""
        self._running()
        checked_path(path)
        at = path
        for _ in range(_LINKS):
            entry = self._entry(at)
            if not stat.S_ISLNK(entry.mode):
                break
            at = posixpath.normpath(posixpath.join(posixpath.dirname(at), entry.content.decode()))
        if not stat.S_ISREG(entry.mode):
            raise ProvisionError(f"{path} is no file", place=self._name)
        return entry.content

    def interact(self, argv: Sequence[str], *, tty: bool, workdir: str | None = None) -> int:  # noqa: ARG002 - no tty here
        """Simulate a command on the terminal."""
        return self.exec(argv, workdir=workdir).code

    # -- inside ------------------------------------------------------------------------------------------------------

    def _keep(self, path: str, entry: _Entry) -> None:
        self._world.put(self._id, path, entry.text())

    def _keep_tree(self, source: Path, target: str, owner: Owner) -> str:
        """Keep what a real backend would send, so that what it refuses is refused here before anything is kept."""
        packed = pack_tree(source)
        with packed.stream, tarfile.open(fileobj=packed.stream) as tar:
            for member in tar:
                path = posixpath.normpath(posixpath.join(target, member.name))
                content = tar.extractfile(member) if member.isreg() else None
                kind = stat.S_IFDIR if member.isdir() else stat.S_IFLNK if member.issym() else stat.S_IFREG
                data = member.linkname.encode() if content is None else content.read()
                self._keep(path, _Entry(kind | member.mode, owner, data))
        return packed.digest

    def _entry(self, path: str) -> _Entry:
        text = self._world.file(self._id, path)
        if text is None:
            raise ProvisionError(f"there is no file {path}", place=self._name)
        entry = _Entry.of(text)
        return entry if stat.S_IFMT(entry.mode) else _Entry(stat.S_IFREG | entry.mode, entry.owner, entry.content)

    def _cat(self, paths: list[str], stdin: bytes) -> ExecResult:
        try:
            return ExecResult(0, b"".join(map(self.read_file, paths)) if paths else stdin, b"")
        except ProvisionError as error:
            return ExecResult(1, b"", f"cat: {error.problem}\n".encode())

    def _running(self) -> None:
        found = [o for o in self._world.objects() if o.id == self._id and o.state == "running"]
        if not found:
            raise BackendError("the bottle does not run", place=self._name)


def _printenv(names: list[str], env: Mapping[str, str]) -> ExecResult:
    found = [env[name] for name in names if name in env]
    return ExecResult(0 if len(found) == len(names) else 1, "".join(f"{v}\n" for v in found).encode(), b"")


def _pack(tar: tarfile.TarFile, name: str, entry: _Entry) -> None:
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(entry.mode)
    if stat.S_ISDIR(entry.mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(entry.mode):
        info.type, info.linkname = tarfile.SYMTYPE, entry.content.decode()
    else:
        info.size = len(entry.content)
    tar.addfile(info, io.BytesIO(entry.content) if stat.S_ISREG(entry.mode) else None)
