"""The sidecars' Python environment: mitmproxy and the secret detectors, pinned with hashes, apart from our packages.

Made at the first launch and shared by all later ones. Not its duty: running anything in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.local.places import VENV_DIRECTORY
from bottle_fsm.backend.pypi import run_uv
from bottle_fsm.errors import BackendError
from bottle_fsm.resources import data_path

REQUIREMENTS: Final = "images"
_READY: Final = "ready"


def requirements() -> Path:
    """Return the hashed requirements file."""
    return data_path(REQUIREMENTS) / "local" / "requirements.txt"


def venv_path(data: Path) -> Path:
    """Return where the environment of today's requirements and of this Python stands, or will stand."""
    content = requirements().read_bytes() + sys.version.encode() + os.path.realpath(sys.executable).encode()
    return data / VENV_DIRECTORY / hashlib.sha256(content).hexdigest()[:16]


def is_ready(data: Path) -> bool:
    """Say whether the environment was made completely, with a Python that is still there."""
    path = venv_path(data)
    return (path / _READY).is_file() and (path / "bin" / "python").exists()


def ensure_venv(data: Path, environ: Mapping[str, str]) -> Path:
    """Return the environment's directory; make it first if need be, once, whoever asks at the same time.

    Raises:
        BackendError: its packages cannot be installed, or the directory cannot be written.
    """
    path = venv_path(data)
    if is_ready(data):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with (path.parent / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_ready(data):
                _make(path, environ)
    except OSError as error:
        raise BackendError(
            f"the sidecars' environment cannot be made: {error}", place=str(path), hint="Set XDG_DATA_HOME elsewhere"
        ) from error
    return path


def _make(path: Path, environ: Mapping[str, str]) -> None:
    if path.exists():
        shutil.rmtree(path)  # of a launcher that was killed while it installed
    given: dict[str, Any] = {"environ": environ, "what": "the sidecars' packages", "place": str(requirements())}
    run_uv("venv", "--quiet", "--no-config", "--python", os.path.realpath(sys.executable), str(path), **given)
    run_uv(
        *("pip", "install", "--quiet", "--no-config", "--python", str(path / "bin" / "python")),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--index-strategy", "unsafe-best-match"),
        *("--link-mode", "copy", "--compile-bytecode", "--requirements", str(requirements())),
        **given,
    )
    for folder, _, files in os.walk(path):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - read by the users that root's sandboxes run as
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(file.stat().st_mode | 0o444)
    (path / _READY).touch()
