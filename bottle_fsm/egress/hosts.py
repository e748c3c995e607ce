"""Host names as the egress rules compare them: one canonical spelling, or a ValueError.

Not its duty: deciding whether a host may be reached (see `policy`), or resolving it.
"""

from __future__ import annotations

import re
from typing import Final

MAX_HOST: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN: Final = frozenset("\0%/\\@?#[]:* \t\r\n")


def normalise_host(text: str) -> str:
    """Return the canonical spelling of a host name: lower case, IDNA-encoded, without one trailing dot.

    Raises:
        ValueError: not a host name: empty, an address literal in any form (also decimal, octal, hexadecimal or short
            ones, which resolvers take as IPv4), a port, a percent sign, NUL, white space or an empty label.
    """
    if any(char in _FORBIDDEN for char in text):
        raise ValueError("a host name holds only letters, digits, hyphens, underscores and dots")
    name = text.removesuffix(".")
    name = _to_ascii(name).lower()
    labels = name.split(".")
    if not name or len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("a host name has labels of 1 to 63 letters, digits or inner hyphens, at most 253 in all")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise ValueError("an address literal is no host name")
    return name


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("not a valid internationalised host name") from None


def split_authority(text: str, default_port: int) -> tuple[str, int]:
    """Return canonical host and port of `host` or `host:port`, as it stands in a Host header.

    Raises:
        ValueError: the host is none, or the port is not a plain number from 1 to 65535.
    """
    host, colon, digits = text.partition(":")
    return normalise_host(host), parse_port(digits) if colon else default_port


def parse_port(digits: str) -> int:
    """Return a port number written as plain decimal digits.

    Raises:
        ValueError: anything else, such as signs, spaces, other scripts' digits or a number out of range.
    """
    max_digits, max_port = 5, 65535
    if not (digits.isascii() and digits.isdigit() and len(digits) <= max_digits and 0 < int(digits) <= max_port):
        raise ValueError("a port is a number from 1 to 65535")
    return int(digits)
