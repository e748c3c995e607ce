"""What goes into our images from PyPI and npm: fetched on this host, so that its proxies, CAs and mirrors are used.

Not its duty: the images. Everything is pinned with its hash: where it comes from does not matter, what it is does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from bottle_fsm.backend.pypi import run_uv
from bottle_fsm.errors import BackendError, TransientError

NPM_REGISTRY = "https://registry.npmjs.org"
PYTHON_VERSION = "3.13"
_UV_PLATFORM = {"amd64": "x86_64-manylinux_2_40", "arm64": "aarch64-manylinux_2_40"}
_FETCH_TIMEOUT = 60.0


def fetch_npm(pins: Path, cache: Path, *, arch: str, environ: Mapping[str, str]) -> dict[str, Path]:
    """Return the tarballs that `pins` names, from the cache or the registry, each with its integrity verified.

    Args:
        pins: JSON, `{what: {architecture or "any": {name, version, integrity}}}`.
        cache: directory that keeps them.
        arch: the engine's architecture.
        environ: the launcher's environment, for registry, proxies and CAs.

    Raises:
        BackendError: there is none for this architecture, or it is not what was pinned.
        TransientError: the registry does not answer.
    """
    found = {}
    for what, choices in json.loads(pins.read_text(encoding="utf-8")).items():
        pin = choices.get(arch) or choices.get("any")
        if pin is None:
            raise BackendError(
                f"no {what} for {arch}", place=str(pins), hint=f"There are: {', '.join(sorted(choices))}"
            )
        kept = cache / f"{pin['name'].replace('/', '-')}-{pin['version']}.tgz"
        if not (kept.is_file() and _integrity(kept.read_bytes()) == pin["integrity"]):
            _write(kept, _download(pin["name"], pin["version"], pin["integrity"], environ=environ))
        found[what] = kept
    return found


def _integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _write(path: Path, content: bytes) -> None:
    """Write beside and move into place: a killed launcher leaves no half file under the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(content)
    Path(part.name).replace(path)


def _download(name: str, version: str, integrity: str, *, environ: Mapping[str, str]) -> bytes:
    registry, token = _npm_registry(environ)
    url = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise BackendError(
            f"the npm registry {registry} is no http(s) address", hint="Check NPM_CONFIG_REGISTRY and ~/.npmrc"
        )
    handlers = [
        urllib.request.HTTPSHandler(context=_tls_context(environ)),
        urllib.request.ProxyHandler(_proxies(environ)),
    ]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - its scheme was looked at
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_FETCH_TIMEOUT) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TransientError(
            f"{name} {version} cannot be fetched: {reason}",
            place=url,
            hint="Check the network, the proxy variables, or NPM_CONFIG_REGISTRY for a mirror",
        ) from error
    if _integrity(content) != integrity:
        raise BackendError(f"{name} {version} is not what was pinned", place=url, hint=f"Expected {integrity}")
    return content


def _npm_registry(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the registry, and the token for it if the user's npm settings hold one."""
    settings = _npmrc(environ)
    named = environ.get("NPM_CONFIG_REGISTRY") or environ.get("npm_config_registry") or settings.get("registry")
    registry = (named or NPM_REGISTRY).rstrip("/")
    place = registry.partition(":")[2]
    token = settings.get(f"{place}/:_authToken") or settings.get(f"{place}:_authToken") or ""
    return registry, re.sub(r"\$\{(\w+)\}", lambda match: environ.get(match[1], ""), token)


def _npmrc(environ: Mapping[str, str]) -> dict[str, str]:
    path = Path(environ.get("NPM_CONFIG_USERCONFIG") or Path(environ.get("HOME") or Path.home()) / ".npmrc")
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
    return {
        key.strip(): value.strip().strip('"')
        for key, sign, value in pairs
        if sign and not key.lstrip().startswith(("#", ";"))
    }


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    named = {
        scheme: environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY", "")
        for scheme in ("http", "https")
    }
    return {scheme: url for scheme, url in named.items() if url}


def _tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the system's roots and every bundle that the user's variables add."""
    context = ssl.create_default_context()
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        bundle = environ.get(name)
        if bundle and Path(bundle).is_file():
            context.load_verify_locations(bundle)
    return context


def install_python(requirements: Path, target: Path, *, arch: str, environ: Mapping[str, str]) -> None:
    """Put the packages of a hashed requirements file into `target`, for the sidecar's Python and architecture.

    Raises:
        BackendError: there is no uv, no wheel for this architecture, or a hash differs.
    """
    if arch not in _UV_PLATFORM:
        raise BackendError(
            f"no sidecar image for {arch}", place=str(requirements), hint=f"There are: {', '.join(_UV_PLATFORM)}"
        )
    run_uv(
        *("pip", "install", "--quiet", "--no-config", "--target", str(target), "--python", sys.executable),
        *("--python-version", PYTHON_VERSION, "--python-platform", _UV_PLATFORM[arch], "--only-binary", ":all:"),
        *(
            "--no-deps",
            "--require-hashes",
            "--index-strategy",
            "unsafe-best-match",
            "--requirements",
            str(requirements),
        ),
        environ=environ,
        what="the sidecar's packages",
        place=str(requirements),
    )
