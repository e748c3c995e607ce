"""Takes injected values out of answers: a server that echoes a request must not give the agent what it may not hold.

Looked for are the spellings in which servers echo: plain, base64 of HTTP basic, percent-encoded, escaped for JSON and
HTML. A server that transforms what it got in another way, by compression too, defeats this: whoever calls asks the
server for plain answers, and for whole ones, as a range of bytes could give out a value in parts.
Not its duty: which answers are looked at, and their length, which changes with a replacement.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote, quote_plus

from bottle_fsm.egress.injection import Injection, can_be_hidden

_MASK: Final = "*" * 12
"""Stands where there is no placeholder, or one that would itself show a value."""
_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")


def scrub(data: bytes, injections: Sequence[Injection]) -> bytes:
    """Return a text, such as the value of a header, with a placeholder for every injected value."""
    scrubber = Scrubber(injections)
    return scrubber.feed(data) + scrubber.finish()


class Scrubber:
    """Scrubs one body that comes in chunks; all chunks together become what `scrub` makes of the whole.

    Only an end of a chunk that a value may begin with is held back, always less than one value: a stream of events is
    not delayed by it.
    """

    def __init__(self, injections: Sequence[Injection]) -> None:
        self._marks = _marks_of(injections)
        self._first = frozenset(form[0] for form in self._marks)
        self._longest = max(map(len, self._marks), default=0)
        by_length = sorted(self._marks, key=len, reverse=True)
        self._forms = re.compile(b"|".join(map(re.escape, by_length))) if by_length else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next chunk and return what can go on."""
        return self._pass_on(data, ended=False)

    def finish(self) -> bytes:
        """Return what was held back, at the end of the body."""
        return self._pass_on(b"", ended=True)

    def _pass_on(self, data: bytes, *, ended: bool) -> bytes:
        if self._forms is None:
            return data
        text, self._held = self._held + data, b""
        position, done = 0, bytearray()
        open_end = len(text) if ended else self._open_end(text, 0)
        while (found := self._forms.search(text, position)) and found.start() < open_end:
            done += text[position : found.start()] + self._marks[found[0]]
            position = found.end()
            if position > open_end:
                open_end = self._open_end(text, position)
        done += text[position:open_end]
        self._held = text[open_end:]
        return bytes(done)

    def _open_end(self, text: bytes, position: int) -> int:
        """Return where, from a position on, all that is left begins a longer form; the text's end if nowhere."""
        for at in range(max(position, len(text) - self._longest + 1), len(text)):
            if text[at] in self._first and any(
                len(form) > len(text) - at and form.startswith(text[at:]) for form in self._marks
            ):
                return at
        return len(text)


def _marks_of(injections: Sequence[Injection]) -> dict[bytes, bytes]:
    """Return every form of every secret with what stands in its place; never a text that holds a form itself."""
    marks: dict[bytes, bytes] = {}
    for injection in injections:
        for secret, mark in _secrets_of(injection):
            for form in _forms_of(secret):
                marks.setdefault(form.encode(), mark.encode())
    return {form: _MASK.encode() if any(other in mark for other in marks) else mark for form, mark in marks.items()}


def _secrets_of(injection: Injection) -> Iterator[tuple[str, str]]:
    """Yield the texts that must not come back, each with its placeholder: the secrets, the whole, its encoding."""
    shown = _shown(injection)
    texts = [*injection.hidden, (injection.value, shown)]
    if injection.kind == "basic":
        texts.append((injection.value.partition(":")[2], shown.partition(":")[2] or shown))
        texts += [
            (_unpadded(encode(injection.value.encode())), _unpadded(encode(shown.encode())))
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
        ]
    return ((text, mark) for text, mark in texts if can_be_hidden(text))


def _shown(injection: Injection) -> str:
    """Return the value as it may be seen: with placeholders in place of its secrets."""
    marks = dict(injection.hidden)
    if not marks:
        return _MASK
    by_length = sorted(marks, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, by_length)), lambda found: marks[found[0]], injection.value)


def _unpadded(encoded: bytes) -> str:
    """Return base64 without its padding, which an echo may have lost."""
    return encoded.decode().rstrip("=")


def _forms_of(text: str) -> set[str]:
    """Return the spellings of a text in which a server may echo it."""
    quoted = {quote(text, safe=""), quote(text), quote_plus(text)}
    quoted |= {_ESCAPE.sub(lambda found: found[0].lower(), form) for form in quoted}
    escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    escaped |= {form.replace("/", "\\/") for form in escaped}
    markup = {html.escape(text, quote=False), html.escape(text), html.escape(text).replace("&#x27;", "&#39;")}
    return {text} | quoted | escaped | markup
