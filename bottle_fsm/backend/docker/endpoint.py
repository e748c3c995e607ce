"""Which engine: resolving `DOCKER_HOST` and docker contexts to an address, and telling one engine from another.

Not its duty: talking to it. The docker client's own order is kept: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context
of the client's configuration, the default socket.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bottle_fsm.errors import EngineUnavailableError
from bottle_fsm.model import Json

DEFAULT_URL = "unix:///var/run/docker.sock"
_NO_CONTEXT = {"", "default"}


@dataclass(frozen=True, slots=True)
class Address:
    """How an engine is reached.

    Attributes:
        url: `unix://…`, `tcp://…` or `ssh://…`.
        tls_dir: directory with `ca.pem`, `cert.pem` and `key.pem`, empty for a connection without TLS.
        tls_verify: whether the engine's certificate is verified.
    """

    url: str
    tls_dir: str = ""
    tls_verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine, as `planned` records it: how it is reached, and what tells it from another.

    Attributes:
        url: see `Address`; tls_dir, tls_verify: likewise.
        engine_id: the engine's id, empty when two calls gave two ids: then it says nothing.
        name: the engine's host name.
        root_dir: its data root: two engines of one host may share an id.
        version: its version; api_version: the API version in use.
    """

    url: str
    engine_id: str
    name: str
    root_dir: str
    version: str
    api_version: str
    tls_dir: str = ""
    tls_verify: bool = True

    @property
    def address(self) -> Address:
        """Return how it is reached."""
        return Address(self.url, self.tls_dir, self.tls_verify)

    def same_as(self, other: Endpoint) -> bool:
        """Tell whether both are one engine, whatever its address, version or (when it has an id) host name is now."""
        if self.engine_id or other.engine_id:
            return (self.engine_id, self.root_dir) == (other.engine_id, other.root_dir)
        return (self.name, self.root_dir) == (other.name, other.root_dir)

    def to_json(self) -> Json:
        """Return it as the journal carries it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> Endpoint:
        """Read it back; unknown keys of a newer version are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: item for key, item in value.items() if key in known})


def resolve(environ: Mapping[str, str]) -> Address:
    """Return the address that the user's environment and docker configuration name.

    Raises:
        EngineUnavailableError: the named context does not exist or cannot be read, or the address makes no sense.
    """
    config = _config_dir(environ)
    host = environ.get("DOCKER_HOST", "")
    if host:
        return Address(_without_password(host), *_tls_of_environment(environ, config))
    name = environ.get("DOCKER_CONTEXT") or _current_context(config)
    if name in _NO_CONTEXT:
        return Address(DEFAULT_URL)
    return _context(name, config)


def _without_password(url: str) -> str:
    """Return an address that may stand in plan, journal and messages; the engine's own ways of proving who asks do."""
    try:
        password = urlsplit(url).password
    except ValueError:
        hint = "Write it as unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"
        raise EngineUnavailableError("DOCKER_HOST is no address", place="DOCKER_HOST", hint=hint) from None
    if password:
        raise EngineUnavailableError(
            "DOCKER_HOST holds a password, which would stand in the journal",
            place="DOCKER_HOST",
            hint="Use a key (ssh://USER@HOST) or a client certificate (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH)",
        )
    return url


def _config_dir(environ: Mapping[str, str]) -> Path:
    named = environ.get("DOCKER_CONFIG")
    return Path(named) if named else Path(environ.get("HOME") or Path.home()) / ".docker"


def _tls_of_environment(environ: Mapping[str, str], config: Path) -> tuple[str, bool]:
    """Read DOCKER_TLS_VERIFY, DOCKER_TLS and DOCKER_CERT_PATH: any value verifies, as the docker client has it."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return "", True
    return environ.get("DOCKER_CERT_PATH") or str(config), verify


def _current_context(config: Path) -> str:
    try:
        value = _read(config / "config.json").get("currentContext", "")
    except FileNotFoundError:
        return ""
    return value if isinstance(value, str) else ""


def _context(name: str, config: Path) -> Address:
    """Read a context of the docker client: its files are kept under the digest of its name."""
    key = hashlib.sha256(name.encode()).hexdigest()
    place = config / "contexts" / "meta" / key / "meta.json"
    try:
        endpoint = _read(place)["Endpoints"]["docker"]
        url = endpoint.get("Host") or DEFAULT_URL
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise EngineUnavailableError(
            f"the docker context {name!r} does not exist or names no engine",
            place=str(place),
            hint="List them with `docker context ls`; choose one with DOCKER_CONTEXT, or set DOCKER_HOST",
        ) from error
    certificates = config / "contexts" / "tls" / key / "docker"
    tls_dir = str(certificates) if certificates.is_dir() else ""
    return Address(str(url), tls_dir, not endpoint.get("SkipTLSVerify", False))


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object of the docker client's configuration."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise EngineUnavailableError(
            f"the docker client's configuration cannot be read: {error}",
            place=str(path),
            hint="Mend it, or set DOCKER_HOST",
        ) from error
    return value if isinstance(value, dict) else {}
