"""Undoes encodings of text: base64, base32, hexadecimal, quoted-printable, and escapes of URLs, JSON, YAML and HTML.

Each works on a whole text at the speed of C and knows nothing of where in it an encoded value starts: encoded runs are
decoded at every offset that they could have. Not its duty: nesting and bounds (see `views`).
"""

from __future__ import annotations

import binascii
import codecs
import functools
import html
import re
import string
import sys
from collections.abc import Iterator
from typing import Final

from bottle_fsm.places import MIN_SECRET_BYTES

_UPPER32: Final = string.ascii_uppercase + "234567"
_DIGITS32: Final = b"0123456789abcdefghijklmnopqrstuv"
_INT32: Final = bytes.maketrans((_UPPER32 + string.ascii_lowercase).encode(), _DIGITS32 + _DIGITS32[:26])
"""From base32 in either case to the digits that `int` knows for base 32."""
_HAS_DIGIT32: Final = re.compile(rb"[2-7]")
_PLAIN_BASE64: Final = bytes.maketrans(b"-_", b"+/")
_HEX_SEPARATORS: Final = b" \t\r\n:,;.+-_|\\xX\"'"
_LINE_BREAK: Final = re.compile(rb"\n[ \t]*(?![ \t\n])")
_QUOTED_PRINTABLE: Final = (b"=00", b"=3D", b"=3d", b"=\n", b"=\r\n", b"uoted-printable", b"uoted-Printable")
_QUOTED_TWICE: Final = re.compile(rb"=[0-9A-Fa-f]{2}=[0-9A-Fa-f]{2}")
_ENTITY: Final = re.compile(rb"&(?:#[xX]0*([0-9a-fA-F]{1,6});?|#0*([0-9]{1,7});?|[A-Za-z]{2,10};)")
_BRACED: Final = re.compile(rb"\\u\{0*([0-9a-fA-F]{1,6})\}")
_NO_PERCENT: Final = re.compile(rb"%(?!u[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})")
_BROKEN: Final = re.compile(rb"\\(?=x(?![0-9a-fA-F]{2})|u(?![0-9a-fA-F]{4})|U(?![0-9a-fA-F]{8}))")
_NO_ESCAPE: Final = re.compile(rb"\\(?:(?![\n'\"abfnrtvxuU0-7])|(?=[4-7][0-7]{2}))")
"""A backslash that starts no escape of Python; others, such as JSON (`\\/`), read it as if it were not there."""


def _mask(characters: str) -> bytes:
    """Return a table that makes `1` of these characters and `0` of all others."""
    return bytes(ord("1") if chr(code) in characters else ord("0") for code in range(256))


_TEXT: Final = _mask("\t\r\n" + "".join(chr(code) for code in range(0x20, 0x7F)))
_BASE64: Final = _mask(string.ascii_letters + string.digits + "+/-_")
_HEX: Final = _mask(string.hexdigits)
_BASE32: Final = (_mask(_UPPER32), _mask(_UPPER32.lower()))


def readable(data: bytes) -> bytes:
    """Return the parts of the data that are ASCII text, long enough to hold a secret; UTF-16 loses its NULs first."""
    if b"\0" in data:
        data = data.translate(None, b"\0")
    return data if data.isascii() else b"\x01".join(_runs(data, _TEXT, MIN_SECRET_BYTES))


def base64_runs(text: bytes) -> list[bytes]:
    """Return all runs of base64 in either alphabet, in the standard one; a line break does not end a run."""
    if b"\n" in text or b"\r" in text:
        text = _LINE_BREAK.sub(b"", text.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    runs = _runs(text, _BASE64, MIN_SECRET_BYTES * 4 // 3)
    return [run.translate(_PLAIN_BASE64) for run in runs] if b"-" in text or b"_" in text else runs


def from_base64(runs: list[bytes]) -> Iterator[bytes]:
    """Yield the runs decoded, once for each of the four offsets at which an encoded value may start in them."""
    joined = b"".join(runs)
    for offset in range(4 if joined else 0):
        part = joined[offset:]
        yield binascii.a2b_base64(part + b"A" * (-len(part) % 4))


def base32_runs(runs: list[bytes]) -> list[bytes]:
    """Return all runs of base32 within runs of base64; one of small letters has a digit, or else it is prose."""
    text = b" ".join(runs)
    upper, lower = (_runs(text, alphabet, -(-MIN_SECRET_BYTES * 8 // 5)) for alphabet in _BASE32)
    return upper + [run for run in lower if _HAS_DIGIT32.search(run)]


def from_base32(runs: list[bytes]) -> Iterator[bytes]:
    """Yield the runs decoded, once for each of the eight bits at which an encoded value may end in them."""
    joined = b"".join(runs)
    number = int(joined.translate(_INT32), 32) if joined else 0
    for shift in range(8 if joined else 0):
        yield (number >> shift).to_bytes((len(joined) * 5 - shift + 7) // 8, "big")


def hex_runs(text: bytes) -> list[bytes]:
    """Return all runs of hexadecimal digits, without what stood between them: separators, `0x`, a backslash and `x`."""
    bare = text.replace(b"0x", b"").replace(b"0X", b"").translate(None, _HEX_SEPARATORS)
    return _runs(bare, _HEX, MIN_SECRET_BYTES * 2)


def from_hex(runs: list[bytes]) -> Iterator[bytes]:
    """Yield the runs decoded, once for each of the two digits at which an encoded value may start."""
    joined = b"".join(runs)
    for offset in range(2 if joined else 0):
        yield binascii.unhexlify(joined[offset : len(joined) - (len(joined) - offset) % 2])


def from_quoted_printable(text: bytes) -> bytes:
    """Return the text without its quoted-printable encoding, or nothing where it shows no sign of one."""
    signs = any(sign in text for sign in _QUOTED_PRINTABLE) or _QUOTED_TWICE.search(text)
    return binascii.a2b_qp(text) if signs else b""


def unescape(text: bytes) -> bytes:
    """Return an ASCII text with one layer of escapes undone, as UTF-8, or nothing where it has none.

    Undone are `%41` and `%u0041`, what a backslash does in JSON, YAML and JavaScript, and HTML's entities. What is
    malformed stays.
    """
    plain = _ENTITY.sub(lambda match: _entity(match[0]), text) if b"&" in text else text
    if b"\0" in plain:
        plain = plain.translate(None, b"\0")
    if b"\\" in plain or b"%" in plain:
        plain = _NO_PERCENT.sub(b"%25", plain.replace(b"\\\\", b"\\x5c"))
        plain = _BRACED.sub(lambda match: b"\\U" + match[1].rjust(8, b"0"), plain.replace(b"%u", b"\\u"))
        plain = _NO_ESCAPE.sub(b"", _BROKEN.sub(rb"\\x5c", plain.replace(b"%", b"\\x")))
        characters, _ = codecs.unicode_escape_decode(plain, "ignore")
        plain = characters.encode("utf-8", "surrogatepass")
    return b"" if plain == text else plain


@functools.lru_cache(maxsize=4096)
def _entity(entity: bytes) -> bytes:
    match = _ENTITY.fullmatch(entity)
    if match is None or not match.lastindex:
        return html.unescape(entity.decode("ascii")).encode()
    code = int(match[1], 16) if match[1] else int(match[2])
    return chr(code).encode("utf-8", "surrogatepass") if code <= sys.maxunicode else entity


def _runs(text: bytes, alphabet: bytes, shortest: int) -> list[bytes]:
    """Return the longest possible parts of the text, not shorter than so many bytes, of characters of an alphabet."""
    mask = text.translate(alphabet)
    wanted = b"1" * shortest
    runs: list[bytes] = []
    end = 0
    while (start := mask.find(wanted, end)) >= 0:
        end = mask.find(b"0", start)
        end = len(text) if end < 0 else end
        runs.append(text[start:end])
    return runs
