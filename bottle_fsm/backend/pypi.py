"""Packages from PyPI by uv, with the settings that the user gave pip: indexes, mirrors, CAs, proxies.

Not its duty: what is installed where.
"""

from __future__ import annotations

import configparser
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uv

from bottle_fsm.errors import BackendError, StepTimeoutError

_TIMEOUT: Final = 900.0
_PIP_SETTINGS = {  # pip's variable and option, and what uv calls it
    ("PIP_INDEX_URL", "index-url"): "UV_DEFAULT_INDEX",
    ("PIP_EXTRA_INDEX_URL", "extra-index-url"): "UV_INDEX",
    ("PIP_FIND_LINKS", "find-links"): "UV_FIND_LINKS",
}


def run_uv(*arguments: str, environ: Mapping[str, str], what: str, place: str) -> None:
    """Run uv to its end; `what` is installed, `place` is where errors point.

    Raises:
        BackendError: there is no uv, no wheel, or a hash differs. StepTimeoutError: it took too long.
    """
    try:
        command = [uv.find_uv_bin(), *arguments]
        settings = uv_environment(environ)
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise BackendError("uv is missing", place=place, hint="Install it: pip install uv") from error
    except subprocess.TimeoutExpired as error:
        raise StepTimeoutError(f"uv did not end within {error.timeout:.0f} s", place=place) from error
    if done.returncode != 0:
        tail = " ".join(done.stderr.split())[-600:]
        raise BackendError(
            f"{what} cannot be fetched: {tail}",
            place=place,
            hint="Check the network, the proxy variables, or PIP_INDEX_URL for a mirror",
        )


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which uv, which does not read pip's settings, has them.

    With hashes required, taking the best match over all indexes cannot bring in a stranger's package.
    """
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true", **environ}
    settings.pop("VIRTUAL_ENV", None)
    configured = _pip_config(environ)
    for (variable, option), name in _PIP_SETTINGS.items():
        value = environ.get(variable) or configured.get(option)
        if value and name not in settings:
            settings[name] = ("," if name == "UV_FIND_LINKS" else " ").join(value.split())
    bundle = environ.get("PIP_CERT") or environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        settings.setdefault("SSL_CERT_FILE", bundle)
    return settings


def _pip_config(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's global options, the user's file over the machine's."""
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        base / "pip/pip.conf",
        Path(environ.get("PIP_CONFIG_FILE") or os.devnull),
    ]
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read([str(path) for path in files if path.is_file()], encoding="utf-8")
    except configparser.Error as error:
        raise BackendError(f"pip's settings cannot be read: {error}", hint="Mend the file") from error
    return dict(parser["global"]) if parser.has_section("global") else {}
