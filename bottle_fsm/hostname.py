"""Host names in one canonical spelling, for the manifest that allows them and for the sidecars that compare them.

Pure, standard library only: it is imported inside the sidecars, too. Not its duty: deciding whether a host may be
reached (`egress.policy`), and further wishes of a manifest (`manifest.hosts`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Fault = Literal["form", "spelling", "address"]

MAX_HOST: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN: Final = frozenset("\0%/\\@?#[]:* \t\r\n")


class HostNameError(ValueError):
    """A text is no host name.

    Attributes:
        fault: `form` (characters or labels that no name has), `spelling` (standards disagree on its DNS spelling) or
            `address` (resolvers take it for an address).
    """

    def __init__(self, fault: Fault, problem: str) -> None:
        super().__init__(problem)
        self.fault = fault


def normalise_host(text: str) -> str:
    """Return the canonical spelling of a host name: lower case, in its DNS spelling, without one trailing dot.

    Raises:
        HostNameError: not a host name: empty, an address literal in any form (also decimal, octal, hexadecimal or
            short ones, which resolvers take as IPv4), a port, a percent sign, NUL, white space or an empty label; or a
            name that the standards of 2003 and 2008 spell differently, so that two programs could reach two hosts.
    """
    if any(char in _FORBIDDEN for char in text):
        raise HostNameError("form", "a host name holds only letters, digits, hyphens, underscores and dots")
    name = text.removesuffix(".")
    if len(name) <= MAX_HOST:
        name = _to_ascii(name)
    labels = name.split(".")
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        problem = "a host name has labels of 1 to 63 letters, digits or inner hyphens, at most 253 in all"
        raise HostNameError("form", problem)
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise HostNameError("address", "an address literal is no host name")
    return name


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name.lower()
    plain = unicodedata.normalize("NFC", name).lower()
    try:
        spelled = plain.encode("idna").decode("ascii").lower()
        same = spelled.encode("ascii").decode("idna") == plain
    except UnicodeError:
        same = False
    if not same:
        raise HostNameError("spelling", "an internationalised host name has one spelling in DNS")
    return spelled
