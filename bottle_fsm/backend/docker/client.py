"""The door to a Docker engine: `connect` gives an `Engine`, whose `guarded` lends docker-py's low-level client.

Not its duty: what is asked of the engine, and what its failures mean for a launch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bottle_fsm.backend.docker.endpoint import Address, Endpoint, resolve
from bottle_fsm.backend.docker.errors import translated
from bottle_fsm.backend.docker.line import Line
from bottle_fsm.errors import DecisionNeededError, EngineUnavailableError, TransientError
from bottle_fsm.failpoints import hit

if TYPE_CHECKING:
    from docker import APIClient

MIN_API = (1, 41)
MIN_ENGINE = "20.10"
_OLDEST_API = ".".join(map(str, MIN_API))
_CHECK = "Check DOCKER_HOST, the docker context, or the engine's log"
CALL_TIMEOUT = 30.0


class Engine:
    """One engine that answered. Safe to share between threads.

    Attributes:
        version: its version; api_version: the API version in use; arch: `amd64`, `arm64`, … (Go's names).
    """

    def __init__(self, line: Line, *, version: str, api_version: str, arch: str) -> None:
        self.version = version
        self.api_version = api_version
        self.arch = arch
        self._line = line
        self._endpoint: Endpoint | None = None

    @property
    def address(self) -> Address:
        """Return how the engine is reached."""
        return self._line.address

    @property
    def url(self) -> str:
        """Return the engine's address as text."""
        return self._line.address.url

    @contextmanager
    def guarded(self, step: str, *, timeout: float = CALL_TIMEOUT) -> Iterator[APIClient]:
        """Lend the low-level client for a block out of which only our own errors come.

        Args:
            step: what is done, as it should stand in an error's place, such as `create network <name>`.
            timeout: seconds without a byte from the engine after which a call is given up.

        Raises:
            BackendError: or a subclass, see `errors.translated`.
        """
        with translated(step, url=self.url):
            self._line.knock(timeout)
            yield self._line.client(self.api_version, timeout)
        hit("engine.called", step)

    def endpoint(self) -> Endpoint:
        """Return what tells this engine from others; asked of the engine once."""
        if self._endpoint is None:
            with self.guarded("identify the engine") as api:
                first, second = api.info(), api.info()
            stable = first.get("ID", "") if first.get("ID") == second.get("ID") else ""
            self._endpoint = Endpoint(
                url=self.url,
                engine_id=stable or "",
                name=second.get("Name", ""),
                root_dir=second.get("DockerRootDir", ""),
                version=self.version,
                api_version=self.api_version,
                tls_dir=self.address.tls_dir,
                tls_verify=self.address.tls_verify,
            )
        return self._endpoint

    def close(self) -> None:
        """Close every connection. The engine may be used again afterwards."""
        self._line.close()


def connect(environ: Mapping[str, str], *, endpoint: Endpoint | None = None, timeout: float = CALL_TIMEOUT) -> Engine:
    """Connect to the engine that `endpoint` recorded, else to the one that the user's environment names.

    Raises:
        EngineUnavailableError: no engine answers, it may not be used, or it is too old.
        DecisionNeededError: another engine than the recorded one answers at the recorded address.
    """
    address = endpoint.address if endpoint else resolve(environ)
    line = Line(address)
    try:
        answer = _ask_version(line, timeout)
        engine = _of_answer(line, answer)
        if endpoint:
            _require_same(engine, endpoint)
    except BaseException:
        line.close()
        raise
    return engine


def _of_answer(line: Line, answer: dict[str, Any]) -> Engine:
    """Return the engine that gave this answer about its versions, if it is new enough."""
    api_version = str(answer["ApiVersion"])
    if tuple(int(part) for part in api_version.split(".")) < MIN_API:
        raise EngineUnavailableError(
            f"engine {answer.get('Version')} (API {api_version}) at {line.address.url} is too old",
            place="connect",
            hint=f"Engine {MIN_ENGINE} (API {_OLDEST_API}) or newer is needed",
        )
    return Engine(
        line, version=str(answer.get("Version", "")), api_version=api_version, arch=str(answer.get("Arch", ""))
    )


def _require_same(engine: Engine, recorded: Endpoint) -> None:
    """Refuse another engine than the recorded one: what was launched there is not to be seen, or made, here."""
    found = engine.endpoint()
    if not recorded.same_as(found):
        raise DecisionNeededError(
            f"another engine answers at {recorded.url}: {found.name} {found.root_dir}, "
            f"recorded was {recorded.name} {recorded.root_dir}",
            place="connect",
            hint="Bring the recorded engine back; what was launched there is not visible from here",
        )


def _ask_version(line: Line, timeout: float) -> dict[str, Any]:
    """Ask an engine for its versions; what does not answer like an engine is not available."""
    url = line.address.url
    answer: Any
    try:
        with translated("connect", url=url):
            line.knock(timeout)
            answer = line.client(_OLDEST_API, timeout).version(api_version=False)
    except TransientError as error:
        said = line.last_words()
        raise EngineUnavailableError(
            f"{error.problem}: {said}" if said else error.problem,
            place="connect",
            hint=f"Is it a Docker engine? {_CHECK}",
        ) from error
    found: dict[str, Any] = answer if isinstance(answer, dict) else {}
    if not re.fullmatch(r"\d+\.\d+", str(found.get("ApiVersion"))):
        raise EngineUnavailableError(f"what answers at {url} is not a Docker engine", place="connect", hint=_CHECK)
    return found
