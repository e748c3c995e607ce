"""Encodings that a secret may be sent in, as functions from bytes to bytes."""

from __future__ import annotations

import base64
import gzip
import html
import json
import quopri
import zlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, quote_plus

Encode = Callable[[bytes], bytes]


def each(pattern: bytes, joint: bytes = b"") -> Encode:
    return lambda data: joint.join(pattern % code for code in data)


def then(first: Encode, second: Encode) -> Encode:
    return lambda data: second(first(data))


def raw_deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


def wide(name: str) -> Encode:
    return lambda data: data.decode("latin-1").encode(name)


def mixed_case(data: bytes) -> bytes:
    return "".join(digit.upper() if at % 3 else digit for at, digit in enumerate(data.hex())).encode()


def every_second(data: bytes) -> bytes:
    return b"".join(b"%%%02x" % code if at % 2 or code in b"%\\&" else bytes((code,)) for at, code in enumerate(data))


def json_text(data: bytes) -> bytes:
    return json.dumps(data.decode("latin-1")).encode().replace(b"/", b"\\/")


BASE64: Final[dict[str, Encode]] = {
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 without padding": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "base64 in lines": lambda data: b"\r\n".join(base64.encodebytes(data).splitlines()),
}
HEX: Final[dict[str, Encode]] = {
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "hex in mixed case": mixed_case,
    "hex with colons": lambda data: data.hex(":").encode(),
    "hex with spaces": lambda data: data.hex(" ").encode(),
}
ESCAPED: Final[dict[str, Encode]] = {
    "backslash x": each(b"\\x%02x"),
    "every byte in percent": each(b"%%%02X"),
    "every second byte in percent": every_second,
    "quoted": lambda data: quote(data, safe="").encode(),
    "quoted as a form field": lambda data: quote_plus(data).encode(),
    "JSON": json_text,
    "backslash u": each(b"\\u%04x"),
    "backslash u in braces": each(b"\\u{%x}"),
    "percent u": each(b"%%u%04x"),
    "HTML": lambda data: html.escape(data.decode("latin-1")).encode("latin-1"),
    "HTML in hex": each(b"&#x%x;"),
    "HTML in decimal": each(b"&#%d;"),
    "UTF-16 LE": wide("utf-16-le"),
    "UTF-16 BE": wide("utf-16-be"),
}
OTHER: Final[dict[str, Encode]] = {
    "0x": each(b"0x%02X", b", "),
    "base32": base64.b32encode,
    "quoted-printable": lambda data: b"Content-Transfer-Encoding: quoted-printable\n\n" + quopri.encodestring(data),
    "quoted-printable, every byte": each(b"=%02X"),
}
PACKED: Final[dict[str, Encode]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "raw deflate": raw_deflate,
}
PACKED_BASE64: Final = {f"{name} in base64": then(pack, base64.b64encode) for name, pack in PACKED.items()}
NESTING: Final = {**BASE64, **HEX, **ESCAPED, **OTHER}
"""Those that may stand in one another, in any order."""
