"""The workspace on the host: which files go along, and a usable repository to go with them. Knows no bottle.

What goes along are tracked files plus untracked ones that are not ignored, as they are on disk. The repository is a
fresh clone: history, branches and tags, but neither hooks nor the host's git configuration, which may hold passwords
and run commands. Not its duty: putting anything inside (`git`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, cast
from urllib.parse import urlsplit, urlunsplit

from bottle_fsm.errors import ProvisionError

Kind = Literal["plain", "repository", "worktree", "part"]
"""`plain`: no repository. `repository`: its top. `worktree`: a worktree or submodule, whose repository lies elsewhere.
`part`: a directory below a repository's top; its files go along, the repository does not."""

GIT_SECONDS: Final = 600.0
SUSPICIOUS: Final = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    ".netrc", ".pypirc", ".npmrc", ".git-credentials", "credentials", "credentials.json", "service-account*.json",
    "secrets.y*ml", "secrets.json", "*.tfstate", ".htpasswd",
)  # fmt: skip
HARMLESS: Final = ("*.example", "*.sample", "*.template", "*.dist")


@dataclass(frozen=True, slots=True)
class Survey:
    """What would go along: `files` are paths below `source`, sorted; links count as files and are not followed."""

    source: Path
    kind: Kind
    files: tuple[str, ...]
    size: int

    @property
    def suspects(self) -> tuple[str, ...]:
        """Files whose names say that they hold secrets."""
        return tuple(path for path in self.files if is_suspicious(path.rpartition("/")[2]))


def is_suspicious(name: str) -> bool:
    """Tell whether a file's name says that it holds a secret."""
    lowered = name.lower()
    if any(fnmatch.fnmatchcase(lowered, pattern) for pattern in HARMLESS):
        return False
    return any(fnmatch.fnmatchcase(lowered, pattern) for pattern in SUSPICIOUS)


def survey(source: Path) -> Survey:
    """Look at a workspace's source.

    Raises:
        ProvisionError: it cannot be read, or git refuses to list it.
    """
    kind = _kind(source)
    try:
        listed = _walk(source) if kind == "plain" else _git_files(source)
        files, size = [], 0
        for path in listed:
            info = _lstat(source / path)
            if info is not None:
                files.append(path)
                size += info.st_size
    except OSError as error:
        raise ProvisionError(f"cannot be read: {error.strerror}", place=str(error.filename or source)) from error
    return Survey(source, kind, tuple(sorted(files)), size)


def pack(found: Survey, target: IO[bytes]) -> str:
    """Write a tar of the files, and of the repository as `.git`; return a digest of what was copied.

    The digest is over paths, modes and contents, and over the repository's references: equal workspaces, equal
    digests, whenever they are packed.

    Raises:
        ProvisionError: a file went away while it was read, or git cannot clone.
    """
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=target, mode="w") as archive:
        if found.kind in {"repository", "worktree"}:
            clone = _clone(found.source, Path(scratch) / "clone.git")
            digest.update(_git(clone, "for-each-ref") + (clone / "HEAD").read_bytes())
            for path in _walk(clone):
                _add(archive, clone / path, f".git/{path}")
        for path in found.files:
            digest.update(_add(archive, found.source / path, path).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _kind(source: Path) -> Kind:
    if (source / ".git").is_dir():
        return "repository"
    if (source / ".git").is_file():
        return "worktree"
    try:
        inside = _git(source, "rev-parse", "--is-inside-work-tree", check=False)
    except ProvisionError:
        return "plain"  # no git on this host, and no repository here
    return "part" if inside.strip() == b"true" else "plain"


def _git_files(source: Path) -> list[str]:
    listed = _git(source, "ls-files", "-co", "--exclude-standard", "-z")
    return sorted({os.fsdecode(path) for path in listed.split(b"\0") if path})


def _walk(root: Path) -> list[str]:
    def fail(error: OSError) -> None:
        raise error

    found: list[str] = []
    for directory, names, files in os.walk(root, onerror=fail):
        here = Path(directory)
        links = [name for name in names if (here / name).is_symlink()]
        found += [(here / name).relative_to(root).as_posix() for name in [*files, *links]]
    return sorted(found)


def _lstat(path: Path) -> os.stat_result | None:
    """Return a file's or link's data; None for what does not go along: deleted files, submodules, sockets."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) else None


class _Hashing:
    """A file that is hashed as it is read: the digest is of the bytes that were copied, not of a second look."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self.hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._content.read(size)
        self.hash.update(data)
        return data


def _add(archive: tarfile.TarFile, path: Path, name: str) -> str:
    """Add a file or link under a name, without its owner; return a line that says what was added."""
    try:
        info = archive.gettarinfo(str(path), name)
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode &= 0o777
        if info.islnk():  # two names of one file: each is a file of its own inside
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
        if not info.isreg():
            archive.addfile(info)
            return f"{name}\0{info.linkname}\n"
        with path.open("rb") as file:
            content = _Hashing(file)
            archive.addfile(info, cast("IO[bytes]", content))
    except OSError as error:
        raise ProvisionError(f"changed while it was read: {error.strerror}", place=str(path)) from error
    return f"{name}\0{info.mode:o}\0{content.hash.hexdigest()}\n"


def _clone(source: Path, target: Path) -> Path:
    """Clone a repository or worktree bare, then make it the `.git` of the files that go along.

    By git's own transport: a plain copy would bring objects that nothing refers to, and borrowed object directories.
    """
    if _git(source, "rev-parse", "--verify", "-q", "HEAD", check=False):
        _git(source, "clone", "-q", "--bare", "--no-local", "--template=", str(source), str(target))
        _git(target, "remote", "remove", "origin")
        if not _git(source, "symbolic-ref", "-q", "HEAD", check=False):
            # a clone guesses a branch for a detached HEAD
            head = _git(source, "rev-parse", "HEAD").decode().strip()
            _git(target, "update-ref", "--no-deref", "HEAD", head)
    else:
        _git(source, "init", "-q", "--bare", "--template=", str(target))
    _git(target, "config", "core.bare", "false")
    url = _git(source, "config", "--get", "remote.origin.url", check=False).decode(errors="replace").strip()
    if url and (plain := without_credentials(url)):
        _git(target, "remote", "add", "origin", plain)
    return target


def without_credentials(url: str) -> str:
    """Return a remote's URL without user and password for HTTP; empty for one that means nothing inside a bottle."""
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.scheme == "ssh":
        return url if parts.password is None else ""
    is_scp_form = not parts.scheme and ":" in url.split("/", 1)[0]
    return url if is_scp_form else ""


def _git(directory: Path, *arguments: str, check: bool = True) -> bytes:
    """Run git on this host without hooks, monitors or questions; with `check`, failing is an error."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False)
    except FileNotFoundError as error:
        raise ProvisionError("git is not on this host", place=str(directory), hint="Install git") from error
    except subprocess.TimeoutExpired as error:
        raise ProvisionError(f"git {arguments[0]} took too long", place=str(directory)) from error
    if check and done.returncode != 0:
        text = done.stderr.decode(errors="replace").strip().replace("\n", " / ")
        raise ProvisionError(f"git {arguments[0]} failed: {text}", place=str(directory))
    return done.stdout if done.returncode == 0 else b""
