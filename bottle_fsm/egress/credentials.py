"""Whose credentials a request carries, and whether they may pass: `injected`, `none` or `agent` of each rule.

Any allowed host takes an attacker's own account too, so a credential is refused unless the bottle was given it for that
host. It is looked for by name in headers (see `credential_names`), in the query and in parameters of the path after
`;`, in WebSocket subprotocols, in headers by which some servers replace the target, and before an `@` in the target.
Repeated names are credentials each. A folded header, which two servers may read differently, counts as one.

What stays unseen, on purpose: a secret that is part of the path (`/bot<token>/`, web hooks), in the body, or under a
name that tells nothing. Trailers are headers too: ask about them with an empty path.
Not its duty: requests of a wrong form (see `verdict`), known secrets in other places, and putting values in (see
`injection`).
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from bottle_fsm.egress.credential_names import header_word, parameter_word, words_of

Mode = Literal["injected", "none", "agent"]
Headers = Sequence[tuple[bytes, bytes]]

_BREAKS: Final = re.compile(rb"[\x00\r\n]")
_PARAMETER_ENDS: Final = re.compile(rb"[?&;#]")
_PARAMETER_ENDS_KEPT: Final = re.compile(rb"([?&;#])")
_COOKIE_ENDS: Final = re.compile(rb"[;,]")
_USERINFO: Final = re.compile(rb"(?:[a-z][a-z0-9+.-]*:)?//([^/?#]*)@", re.IGNORECASE)
_BASIC: Final = re.compile(rb"\s*basic\s+([a-z0-9+/=]+)\s*", re.IGNORECASE)
_TARGET_HEADERS: Final = frozenset({"x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri"})

_RUN: Final = re.compile(rb"[^\s,;:=@\"']+")
_MAX_RUN: Final = 19
"""Beside a granted secret: shorter than any access token in use."""
_MAX_RUN_OF_BASIC: Final = 36
"""Beside a granted password: a user name, which can be as long as a UUID."""
_MAX_CUTS: Final = 8
_GONE: Final = b"***"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential in a request: where, as one of a fixed set of texts that logs may hold, and its value."""

    place: str
    value: bytes = field(repr=False)


def found_credentials(headers: Headers, path: str) -> tuple[Credential, ...]:
    """Return every credential of a request's head, in order.

    Args:
        headers: name and value of each header, as received.
        path: the request target as received, such as `/a;b=c?d=e`; empty for trailers.
    """
    found = [credential for name, value in headers for credential in _in_header(name, value)]
    return (*found, *_in_target(path.encode("utf-8", "surrogateescape")))


def credential_verdict(
    mode: Mode,
    credentials: Sequence[Credential],
    *,
    granted: Callable[[bytes], bool],
    placeholders: frozenset[bytes],
) -> str:
    """Return the place of the first credential that is refused, or an empty text when none is.

    A granted secret or a placeholder excuses nothing beside it: what is left of the value without them must be too
    short for somebody's token, or `Bearer <token> <placeholder>` would pass.

    Args:
        mode: `agent` refuses none, `none` all that are not granted, `injected` lets placeholders pass besides; any
            other text is taken for `none`.
        credentials: as `found_credentials` returned them.
        granted: tells whether a text contains a secret that is meant for this host.
        placeholders: what the agent holds in place of injected values; one of them in a value is enough.
    """
    if mode == "agent":
        return ""
    known = placeholders if mode == "injected" else frozenset[bytes]()
    return next((one.place for one in credentials if not _is_excused(one.value, granted, known)), "")


def without_credentials(headers: Headers, path: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Return headers and target without the values of their credentials, for a scan where any credential may pass."""
    fields = tuple((name, _GONE if any(_in_header(name, value)) else value) for name, value in headers)
    start, *pieces = _PARAMETER_ENDS_KEPT.split(path)
    for at in range(1, len(pieces), 2):
        if any(_in_target(b"?" + pieces[at])):
            pieces[at] = pieces[at].partition(b"=")[0] + b"=" + _GONE
    return fields, b"".join((start, *pieces))


def _in_header(name: bytes, value: bytes) -> Iterator[Credential]:
    words, word = words_of(name), header_word(name)
    if _BREAKS.search(name) or _BREAKS.search(value):
        yield Credential("header malformed", value)
    elif word == "cookie":
        pairs = [pair.partition(b"=") for pair in _COOKIE_ENDS.split(value) if pair.strip()]
        for before, sign, after in pairs or [(b"", b"", b"")]:
            yield Credential("header cookie", (after if sign else before).strip())
    elif word:
        yield Credential(f"header {word}", value)
    elif words == "sec-websocket-protocol":
        # Browsers cannot set headers on a WebSocket, so APIs take `…api-key.<key>` as a protocol instead.
        for protocol in value.split(b","):
            if header_word(protocol):
                yield Credential("header sec-websocket-protocol", protocol)
    elif words in _TARGET_HEADERS:
        yield from (Credential(f"header {words}", credential.value) for credential in _in_target(value))


def _in_target(target: bytes) -> Iterator[Credential]:
    if userinfo := _USERINFO.match(target):
        yield Credential("userinfo", unquote_to_bytes(userinfo[1]))
    for parameter in _PARAMETER_ENDS.split(target)[1:]:
        name, _, value = parameter.partition(b"=")
        decoded = unquote_to_bytes(value)
        if word := parameter_word(name, decoded):
            yield Credential(f"query {word}", decoded)


def _is_excused(value: bytes, granted: Callable[[bytes], bool], placeholders: frozenset[bytes]) -> bool:
    basic = _decoded_basic(value)
    text, longest = (value, _MAX_RUN) if basic is None else (basic, _MAX_RUN_OF_BASIC)
    held = [mark for mark in placeholders if mark and mark in text]
    if sum(text.count(mark) for mark in held) > 1:
        return False
    rest = text.replace(held[0], b" ") if held else text
    rest, cuts = _without_granted(rest, granted)
    return bool(held or cuts) and all(len(run) <= longest for run in _RUN.findall(rest))


def _decoded_basic(value: bytes) -> bytes | None:
    """Return `user:password` of HTTP basic authentication; None for spellings that two servers may read differently."""
    found = _BASIC.fullmatch(value)
    try:
        decoded = base64.b64decode(found[1], validate=True) if found else b""
    except ValueError:
        return None
    return decoded if found and base64.b64encode(decoded) == found[1] else None


def _without_granted(text: bytes, granted: Callable[[bytes], bool]) -> tuple[bytes, int]:
    """Return a text without the secrets that are granted, and how many those were."""
    cuts = 0
    while text and cuts < _MAX_CUTS and granted(text):
        start, end = _granted_part(text, granted)
        text = text[:start] + b" " + text[end:]
        cuts += 1
    return text, cuts


def _granted_part(text: bytes, granted: Callable[[bytes], bool]) -> tuple[int, int]:
    """Return where the first granted secret begins and ends in a text that contains one.

    `granted` only says whether a text contains one. A part that still does, but no longer when it loses its first or
    last byte, is the secret itself; both ends are found by halving. However odd the answers, the part is granted.
    """
    end = bisect_left(range(len(text)), 1, key=lambda end: granted(text[:end]))
    return bisect_left(range(end), 1, key=lambda start: not granted(text[start:end])) - 1, end
