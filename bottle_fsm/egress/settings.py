"""Strict reading of a sidecar's JSON settings: exactly the known keys, of the known types.

Not its duty: where the bytes come from (see `sealed`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

MIN_TOKEN: Final = 16


class SettingsError(Exception):
    """The settings of a sidecar make no sense; the text names the key, never a value."""


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a port to listen on or to dial."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SocketPath:
    """A Unix socket to listen on: who may connect is decided by the directory that it stands in."""

    path: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """The two tokens of one launch: for the guard's scan API, and for its CONNECT."""

    scan: str
    proxy: str

    def __repr__(self) -> str:
        return "Tokens(********)"

    @classmethod
    def of(cls, value: dict[str, Any]) -> Tokens:
        """Read tokens from their JSON object.

        Raises:
            SettingsError: a token is missing, short, or holds characters that no header may carry.
        """
        expect_keys(value, {"scan_token", "proxy_token"}, "tokens")
        for name, token in value.items():
            if not isinstance(token, str) or len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
                raise SettingsError(f"{name}: a token is at least {MIN_TOKEN} printable ASCII characters")
        return cls(scan=value["scan_token"], proxy=value["proxy_token"])


def expect_keys(value: Any, required: set[str], place: str, *, optional: frozenset[str] = frozenset()) -> None:
    """Require an object with all required keys and no unknown one.

    Raises:
        SettingsError: keys are missing or unknown, or it is no object.
    """
    if not isinstance(value, dict):
        raise SettingsError(f"{place}: not an object")
    missing, unknown = required - set(value), set(value) - required - optional
    if missing or unknown:
        raise SettingsError(f"{place}: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")


def text_of(value: dict[str, Any], key: str) -> str:
    """Return a text that is not empty.

    Raises:
        SettingsError: it is something else.
    """
    found = value[key]
    if not isinstance(found, str) or not found:
        raise SettingsError(f"{key}: a text that is not empty is wanted")
    return found


def number_of(value: dict[str, Any], key: str, *, low: int, high: int) -> int:
    """Return a whole number within bounds.

    Raises:
        SettingsError: it is something else.
    """
    found = value[key]
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise SettingsError(f"{key}: a whole number from {low} to {high} is wanted")
    return found


def address_of(value: Any, place: str) -> Address:
    """Return an address from `{"host": IP, "port": N}`.

    Raises:
        SettingsError: the host is no IP address, or the port is out of range.
    """
    expect_keys(value, {"host", "port"}, place)
    try:
        host = str(ipaddress.ip_address(text_of(value, "host")))
        return Address(host=host, port=number_of(value, "port", low=1, high=65535))
    except (SettingsError, ValueError):
        raise SettingsError(
            f"{place}: an IP address (no name, so that no resolver decides) and a port are wanted"
        ) from None


def listener_of(value: Any, place: str) -> Address | SocketPath:
    """Return where to listen: an address as in `address_of`, or `{"path": ABSOLUTE}` for a Unix socket.

    Raises:
        SettingsError: it is neither.
    """
    if not isinstance(value, dict) or "path" not in value:
        return address_of(value, place)
    expect_keys(value, {"path"}, place)
    path = text_of(value, "path")
    if not path.startswith("/"):
        raise SettingsError(f"{place}: an absolute path is wanted")
    return SocketPath(path)
