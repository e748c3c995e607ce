"""Replaces a known secret in data by a marker that says its name.

First every fixed form is replaced. What is still there, escaped or parted in an unusual way, is then followed character
by character from each place where it may start. Not its duty: finding out whether something of the secret is left, such
as what was encoded twice (see `known`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bottle_fsm.egress.decoders import unescape
from bottle_fsm.egress.known_forms import base64_forms, literal_forms, only_alnum, without_space
from bottle_fsm.places import MIN_SECRET_BYTES

_NOT_IN_NAME: Final = re.compile(r"[^0-9A-Za-z_.-]")
_MAX_GAP: Final = 64
"""Characters that may part two characters of a secret."""
_NAMED: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_TOKEN: Final = re.compile(
    rb"(?:%(?:25){0,3}(?:u00)?|\\{1,8}(?:u00|x))(?P<hex>[0-9a-fA-F]{2})"
    rb"|\\{1,8}u\{0{0,4}(?P<braced>[0-9a-fA-F]{1,2})\}"
    rb"|&#[xX]0{0,4}(?P<entity>[0-9a-fA-F]{1,2});?"
    rb"|&#0{0,4}(?P<decimal>[0-9]{1,3});?"
    rb"|&(?P<named>amp|lt|gt|quot|apos);"
    rb"|\\{1,8}(?P<gap>u[0-9a-fA-F]{4}|[bfnrt])"
    rb"|\\{1,7}(?P<quoted>[\"'/])"
    rb"|(?P<plain>.)",
    re.DOTALL,
)
"""One character, plain or escaped."""


class Mask:
    """The marker of one secret, and everything that it replaces."""

    __slots__ = ("_literal", "_marker", "_trails")

    def __init__(self, name: str, value: bytes) -> None:
        self._marker = f"[secret {_NOT_IN_NAME.sub('_', name)} removed by bottle-fsm]".encode()
        self._literal = sorted(literal_forms(value), key=len, reverse=True)
        self._trails = tuple(_trails(value.strip()))

    def apply(self, data: bytes) -> bytes:
        """Return the data with the marker in every place of the secret."""
        for form in self._literal:
            data = data.replace(form, self._marker)
        opened = unescape(data)
        views = (data, opened, unescape(opened))
        for trail in self._trails:
            if any(trail.may_be_in(view) for view in views):
                data = trail.replaced(data, self._marker)
        return data


class _Trail:
    """One form of a secret, to be followed whatever escapes its characters and stands between them."""

    __slots__ = ("_form", "_reading", "_start")

    def __init__(self, form: bytes, *, dense: bool = False) -> None:
        self._form = form
        self._reading = without_space if dense else only_alnum
        self._start = re.compile(_escapable(form[0]))

    def may_be_in(self, view: bytes) -> bool:
        """Tell whether the form can be in data whose escapes are undone: following it is slow."""
        return self._form in self._read(view) or any(sign in self._form for sign in (b"%", b"\\", b"&"))

    def replaced(self, data: bytes, marker: bytes) -> bytes:
        """Return the data with the marker in every place of the form."""
        parts = []
        done = at = 0
        while (match := self._start.search(data, at)) is not None:
            end = self._end(data, match.start())
            at = max(end, match.start() + 1)
            if end:
                parts += [data[done : match.start()], marker]
                done = end
        return b"".join((*parts, data[done:]))

    def _read(self, data: bytes) -> bytes:
        return self._reading(data)

    def _end(self, data: bytes, at: int) -> int:
        """Return where the form that starts at a place ends, 0 when it is another text."""
        matched = gap = 0
        for token in _TOKEN.finditer(data, at):
            character = self._read(_character(token))
            if character == self._form[matched : matched + 1]:
                matched, gap = matched + 1, 0
            elif character or gap == _MAX_GAP:
                return 0
            else:
                gap += 1
            if matched == len(self._form):
                return token.end()
        return 0


class _HexTrail(_Trail):
    """A form in hexadecimal digits, of either case."""

    __slots__ = ()

    def _read(self, data: bytes) -> bytes:
        return only_alnum(data).lower()


def _trails(value: bytes) -> Iterator[_Trail]:
    bare = only_alnum(value)
    if len(bare) < MIN_SECRET_BYTES <= len(dense := without_space(value)):
        yield _Trail(dense, dense=True)
    for form in (bare, *map(only_alnum, base64_forms(value))):
        if len(form) >= MIN_SECRET_BYTES:
            yield _Trail(form)
    yield _HexTrail(value.hex().encode())


def _escapable(code: int) -> bytes:
    """Return a pattern of one byte as it is or with any escape that `_TOKEN` reads."""
    both = re.escape(bytes((code,)).lower()) + rb"|" + re.escape(bytes((code,)).upper())
    return rb"%b|[%%\\&]" % both


def _character(token: re.Match[bytes]) -> bytes:
    text = token[token.lastgroup or "plain"]
    if token.lastgroup in {"hex", "braced", "entity"}:
        return bytes((int(text, 16),))
    if token.lastgroup == "decimal":
        return bytes((min(int(text), 0xFF),))
    if token.lastgroup == "named":
        return _NAMED[text]
    return b"" if token.lastgroup == "gap" else text
