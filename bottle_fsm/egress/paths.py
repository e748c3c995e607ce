"""Which requests are clear about their method and path, so that a rule that limits them means what it says.

Servers take a path apart in different ways: they decode it, some twice; they take out dot segments, double slashes and
parameters; they turn look-alikes into ASCII. A path that could become another one on that way is not matched but
refused, and so is a request that asks for another method or path beside its first line. What is left is matched byte
for byte as it is sent.

Standard library only; no I/O. Not its duty: the decision (`verdict`), which signs a glob may hold (`pathglob`), and
bodies: what a server makes of a POST that it is allowed to get is its own matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from bottle_fsm.pathglob import glob_matches

_PLAIN: Final = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,:=@/-]|%[0-9A-Fa-f]{2})*")
"""RFC 3986's characters of a path, without `;`, behind which some servers read parameters."""
_ENCODED_SIGN: Final = re.compile(r"%(?:2[35ef]|3[bf]|5c|[01][0-9a-f]|7f)", re.IGNORECASE)
"""`#`, `%`, `.`, `/`, `;`, `?`, `\\`, control characters: each could begin another path when it is decoded."""
_SIGNS: Final = "/.\\%;?#"
_LOOK_ALIKES: Final = frozenset("\u2044\u2215\u2216\u00a5\u20a9")
"""Code pages of some servers turn these into slashes; the others are known to Unicode's compatibility forms."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
_ROUNDS: Final = 3

_OTHER_METHOD: Final = frozenset({"-method", "x-http-method-override", "x-http-method", "x-method-override"})
_OTHER_PATH: Final = frozenset(
    {
        "destination",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-forwarded-uri",
        "x-original-uri",
        "x-original-url",
        "x-override-url",
        "x-rewrite-url",
    }
)


def path_of(target: str) -> str:
    """Return the path of a request target, without its query."""
    return target.partition("?")[0]


def allowed(globs: Sequence[str], path: str) -> bool:
    """Tell whether any glob matches a path, which must be clear."""
    return any(glob_matches(glob, path) for glob in globs)


def unclear(path: str) -> bool:
    """Tell whether a server could take a path for another one than it says byte for byte."""
    if not _PLAIN.fullmatch(path) or "//" in path or _ENCODED_SIGN.search(path):
        return True
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return True
    plain = unicodedata.normalize("NFKC", text)
    if any(plain.count(sign) != text.count(sign) for sign in _SIGNS) or _LOOK_ALIKES & set(text):
        return True
    if any(unicodedata.category(sign) in _INVISIBLE for sign in text if not sign.isascii()):
        return True
    # Some servers take white space at the end of a segment away, and a `+` for a space: what is left must not be dots.
    return any(segment and not segment.strip(" .+") for segment in plain.split("/"))


def asks_for_another_method(target: str, headers: Iterable[bytes]) -> bool:
    """Tell whether a header or a key of the query would make a server take another method than the first line's.

    Args:
        target: path and query.
        headers: the names of all headers.
    """
    query = target.partition("?")[2]
    keys = (part.partition("=")[0] for part in re.split("[&;#]", query))
    return any(_OTHER_METHOD & _readings(key) for key in keys) or any(
        _header(name) in _OTHER_METHOD for name in headers
    )


def asks_for_another_path(headers: Iterable[bytes]) -> bool:
    """Tell whether a header would make a server, or a proxy before it, take another path than the first line's."""
    return any(_header(name) in _OTHER_PATH for name in headers)


def _header(name: bytes) -> str:
    """Return a header's name as a server that turns headers into variables compares it."""
    return name.decode("latin-1").strip().lower().replace("_", "-")


def _readings(key: str) -> set[str]:
    """Return what servers may read as the name of a query's key: decoded once or more, odd signs taken for `_`."""
    found = set()
    for _ in range(_ROUNDS + 1):
        found.add(re.sub(r"[ ._\[-]", "-", key.strip().partition("\0")[0].lower()))
        key = unquote_plus(key)
    return found
