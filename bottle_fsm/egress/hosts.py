"""Host and port as they stand in a request, in one canonical spelling, or a ValueError.

Not its duty: deciding whether a host may be reached (see `policy`), or resolving it.
"""

from __future__ import annotations

from bottle_fsm.hostname import normalise_host

__all__ = ["normalise_host", "parse_port", "split_authority"]


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
