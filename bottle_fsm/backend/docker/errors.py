"""What an engine's failures become: `translated` turns every exception of docker-py and its transport into ours.

Not its duty: deciding what to do about a failure. Retries belong to the runner, adoption and removal to the backend.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from bottle_fsm.errors import (
    BackendError,
    EngineUnavailableError,
    ImageMissingError,
    NameTakenError,
    StepTimeoutError,
    TransientError,
)

_POOL_OVERLAP = re.compile(r"pool overlaps|overlaps with (?:other|existing)|address space conflict", re.IGNORECASE)
_NAME_IN_USE = re.compile(r"already in use by|with name \S+ already exists|already exists", re.IGNORECASE)
_NO_IMAGE = re.compile(
    r"no such image|does not exist or no pull access|repository does not exist|"
    r"manifest unknown|manifest for \S+ not found",
    re.IGNORECASE,
)
_LONGEST_CHAIN = 30


class ObjectGoneError(BackendError):
    """The container, network, volume or exec that was named is not on the engine (404): for a removal, success."""

    code = "object_gone"


class SubnetTakenError(BackendError):
    """The wanted subnet overlaps with another network of this engine: the next candidate should be tried."""

    code = "subnet_taken"


class ConflictError(TransientError):
    """The engine refuses for the object's present state (409), such as a removal in progress; soon it may not."""

    code = "transient"


@contextmanager
def translated(step: str, *, url: str) -> Iterator[None]:
    """Let no foreign exception out of the block.

    Args:
        step: what is done, for the error's place, such as `create network claude-bottle-net-x-12345678`.
        url: the engine's endpoint, for messages about reaching it.

    Raises:
        BackendError: or the subclass of it that fits; exceptions that are ours already pass unchanged.
    """
    from docker.errors import APIError, DockerException, InvalidVersion  # noqa: PLC0415 - start-up budget
    from requests.exceptions import RequestException  # noqa: PLC0415 - start-up budget
    from urllib3.exceptions import HTTPError as TransportError  # noqa: PLC0415 - start-up budget

    try:
        yield
    except APIError as error:
        raise _of_answer(error.status_code, _explanation(error), step=step) from error
    except InvalidVersion as error:
        raise BackendError(str(error), place=step, hint="A newer engine is needed for this") from error
    except (DockerException, RequestException, TransportError, OSError) as error:
        raise _of_transport(error, step=step, url=url) from error


def of_stream(message: str, *, step: str) -> BackendError:
    """Return the error for an `error` line in the stream of a build or a pull, whose status was 200."""
    if _NO_IMAGE.search(message):
        return ImageMissingError(message, place=step)
    if re.search(
        r"timeout|temporary|connection re|TLS handshake|toomanyrequests|no such host|EOF", message, re.IGNORECASE
    ):
        return TransientError(message, place=step, hint="The engine could not reach the registry")
    return BackendError(message, place=step)


def _explanation(error: Exception) -> str:
    """Return the engine's own words, one line, without docker-py's wrapping of status and URL."""
    words = getattr(error, "explanation", None) or str(error)
    return " ".join(str(words).split())


def _of_answer(status: int | None, words: str, *, step: str) -> BackendError:
    """Return the error for an HTTP status of the engine."""
    if _POOL_OVERLAP.search(words):
        return SubnetTakenError(words, place=step)
    if status == HTTPStatus.NOT_FOUND:
        return ImageMissingError(words, place=step) if _NO_IMAGE.search(words) else ObjectGoneError(words, place=step)
    if status == HTTPStatus.CONFLICT:
        if _NAME_IN_USE.search(words):
            hint = "It is not ours and is not touched: rename or remove it, or launch with another --name"
            return NameTakenError(words, place=step, hint=hint)
        return ConflictError(words, place=step)
    if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return TransientError(f"the engine failed ({status}): {words}", place=step)
    return BackendError(words, place=step)


def _of_transport(error: BaseException, *, step: str, url: str) -> BackendError:
    """Return the error for a request that got no proper answer."""
    chain = list(_causes(error))
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return EngineUnavailableError(
            f"TLS with the engine at {url} failed: {_short(chain)}",
            place=step,
            hint="Check DOCKER_TLS_VERIFY and the certificates in DOCKER_CERT_PATH or in the docker context",
        )
    if any(isinstance(cause, PermissionError) for cause in chain):
        return EngineUnavailableError(
            f"permission denied on the engine's socket {url}",
            place=step,
            hint="Join the group that owns it (often `docker`), run with sudo, or set DOCKER_HOST to another engine",
        )
    if any(_is_unreachable(cause) for cause in chain):
        return EngineUnavailableError(
            f"no engine answers at {url}: {_short(chain)}",
            place=step,
            hint="Start it (in a source checkout: `make engine`), or set DOCKER_HOST or a docker context to another",
        )
    if any(_is_timeout(cause) for cause in chain):
        return StepTimeoutError(f"the engine at {url} did not answer in time", place=step)
    return TransientError(f"the engine at {url} gave no usable answer: {_short(chain)}", place=step)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps: by cause, by context, and as an argument, as urllib3 does it."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _LONGEST_CHAIN:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        waiting += [item for item in wrapped if isinstance(item, BaseException)]


def _is_unreachable(cause: BaseException) -> bool:
    """Tell whether the connection was never made: then the request was not delivered either."""
    if isinstance(cause, (ConnectionRefusedError, FileNotFoundError, socket.gaierror)):
        return True
    if isinstance(cause, OSError) and cause.errno in {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENOTSOCK,
        errno.EPROTOTYPE,
    }:
        return True
    return type(cause).__name__ in {"NewConnectionError", "ConnectTimeout", "ConnectTimeoutError", "SSHException"}


def _is_timeout(cause: BaseException) -> bool:
    return isinstance(cause, TimeoutError) or type(cause).__name__ in {"ReadTimeout", "ReadTimeoutError"}


def _short(chain: list[BaseException]) -> str:
    """Return the most telling line of a chain: the operating system's own word if there is one."""
    for cause in chain:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return " ".join(str(chain[-1] if str(chain[-1]) else chain[0]).split())
