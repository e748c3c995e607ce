"""The forms in which a known secret may stand in a request: as it is, escaped, or encoded, all as exact bytes.

Base64 and base32 depend on what stands before the secret, so there is one form for each offset; it holds only
characters that the secret alone decides. Not its duty: searching (see `needles`), or forms that are not one fixed text,
such as a secret of which every second character is escaped (see `views`).
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from bottle_fsm.places import MIN_SECRET_BYTES

_ESCAPED_BYTE: Final = re.compile(r"%[0-9A-F]{2}")
_NO_ALNUM: Final = bytes(code for code in range(256) if not (code < 0x80 and chr(code).isalnum()))  # noqa: PLR2004 - ASCII
_SPACE: Final = b" \t\r\n\v\f\0"
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_JAVASCRIPT_KEEPS: Final = "!'()*"


def literal_forms(value: bytes) -> frozenset[bytes]:
    """Return every fixed form of a secret, each at least `MIN_SECRET_BYTES` long.

    White space around the value is no part of it. The result is empty for a value that is too short to be looked for.
    """
    value = value.strip()
    if len(value) < MIN_SECRET_BYTES:
        return frozenset()
    forms = {form for spelling in _spellings(value) for form in (*_escaped(spelling), *_encoded(spelling))}
    return frozenset(form for form in forms if len(form) >= MIN_SECRET_BYTES)


def only_alnum(data: bytes) -> bytes:
    """Return the ASCII letters and digits of the data: no white space, separator, quote or NUL parts them any more."""
    return data.translate(None, _NO_ALNUM)


def without_space(data: bytes) -> bytes:
    """Return the data without white space and NUL."""
    return data.translate(None, _SPACE)


def base64_forms(value: bytes) -> tuple[bytes, ...]:
    """Return the part of each base64 text of a longer value that this value alone decides, for all three offsets."""
    return tuple(_fixed_part(base64.b64encode(bytes(before) + value), before, len(value), 6) for before in range(3))


def base32_forms(value: bytes) -> tuple[bytes, ...]:
    """Return the part of each base32 text of a longer value that this value alone decides, for all five offsets."""
    return tuple(_fixed_part(base64.b32encode(bytes(before) + value), before, len(value), 5) for before in range(5))


def host_forms(value: bytes) -> frozenset[bytes]:
    """Return the forms of a secret among the letters and digits of a host name, all in small letters."""
    value = value.strip()
    forms = {value, value.hex().encode(), *base64_forms(value), *base32_forms(value)}
    return frozenset(form for form in (only_alnum(form).lower() for form in forms) if len(form) >= MIN_SECRET_BYTES)


def _spellings(value: bytes) -> set[bytes]:
    """Return a value in the character sets in which it may be sent; one of ASCII differs in NULs only."""
    spellings = {value}
    if value.isascii():
        return spellings
    spellings.add(value.decode("latin-1").encode())
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return spellings
    wide = text.encode("utf-16-be")
    halves = "".join(chr(int.from_bytes(wide[at : at + 2], "big")) for at in range(0, len(wide), 2))
    spellings |= {wide, text.encode("utf-16-le"), halves.encode("utf-8", "surrogatepass")}
    spellings.add(text.encode("latin-1", "xmlcharrefreplace"))
    return spellings


def _escaped(value: bytes) -> Iterator[bytes]:
    yield value
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        quoted = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for form in (quoted, quoted.replace("/", "\\/"), json.dumps(quoted)[1:-1]):
            yield form.encode("utf-8", "surrogateescape")
    for quotes in (True, False):
        yield html.escape(text, quote=quotes).encode("utf-8", "surrogateescape")
    yield value.replace(b" ", b"+")
    every_byte = "".join(f"%{code:02X}" for code in value)
    kept = (quote(value), quote(value, safe=""), quote(value, safe=_JAVASCRIPT_KEEPS), quote_plus(value), every_byte)
    for form in kept:
        yield form.encode()
        yield _ESCAPED_BYTE.sub(lambda match: match[0].lower(), form).encode()


def _encoded(value: bytes) -> Iterator[bytes]:
    for form in base64_forms(value):
        yield form
        yield form.translate(_URL_SAFE)
    for form in base32_forms(value):
        yield form
        yield form.lower()
    yield value.hex().encode()
    yield value.hex().upper().encode()
    yield ",".join(str(code) for code in value).encode()


def _fixed_part(encoded: bytes, before: int, length: int, bits: int) -> bytes:
    """Cut an encoded text to the characters, of so many bits each, that hold no bit of anything but the value."""
    return encoded[-(-before * 8 // bits) : (before + length) * 8 // bits]
