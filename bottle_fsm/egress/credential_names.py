"""Which names of headers and of query parameters tell that a credential stands behind them.

A name is compared as the most lenient server would read it: any case, any separator between its words (a CGI-like
server cannot tell `X_Api_Key` from `X-Api-Key`), percent signs decoded, look-alike letters folded. The answer is one of
a fixed set of texts, never the name as it came: an agent that writes a secret into a name does not find it in a log.

By name also means: a credential that an API expects under a harmless name is not seen.
Not its duty: values, and what is done about a credential (see `credentials`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from bottle_fsm.places import MIN_SECRET_BYTES

_DECODINGS: Final = 3
"""A server decodes once, a proxy before it perhaps again."""
_BETWEEN_WORDS: Final = re.compile(r"[^a-z0-9]+")
_PERCENT_U: Final = re.compile(rb"%u([0-9a-f]{4})", re.IGNORECASE)

_TELLING: Final = re.compile(
    r"cookie|token(?!s(?:-|$)|i[sz])|secret|credential|signature|passw(?:or)?d|passphrase|passcode|bearer|jwt|hmac"
    r"|session|sessid|auth(?!or(?!i[sz]))"  # neither `author` nor `authority`
    r"|(?:access|account|admin|api|app|application|client|consumer|customer|developer|functions?|integration|license"
    r"|master|private|server|service|shared|signing|subscription|user|write)-?key"
)

_HEADERS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-access-token",
        "private-token",
        "x-goog-api-key",
        "x-amz-security-token",
        "x-honeycomb-team",  # its write key, under a name that tells nothing
    }
)
_HARMLESS_HEADERS: Final = frozenset(
    {
        # Proof that a request was meant, worth nothing without a cookie.
        *("csrftoken", "xcsrftoken", "xsrftoken", "xxsrftoken", "xatlassiantoken"),
        # Handles and keys of things that are no account.
        *("locktoken", "continuationtoken", "xcontinuationtoken", "xmscontinuationtoken"),
        *("secwebsocketkey", "idempotencykey", "xidempotencykey", "surrogatekey", "cachekey", "xcachekey"),
        *("partitionkey",),
        # Challenges and their echoes, which a server writes and no server reads.
        *("wwwauthenticate", "proxyauthenticate", "authenticationinfo", "proxyauthenticationinfo"),
        # Names of a client's run, sent by agent programs and package managers also without any account.
        *("sessionid", "xclaudecodesessionid", "mcpsessionid", "vscodesessionid", "npmsession", "npmauthtype"),
        *("xnugetsessionid",),
    }
)
_PARAMETERS: Final = (
    *("key", "api_key", "apikey", "token", "access_token", "access_key", "secret", "client_secret", "password"),
    *("pass", "pwd", "auth", "signature", "sig", "sign", "sid", "x-amz-signature", "x-amz-credential"),
    *("x-amz-security-token", "x-goog-signature", "x-goog-credential"),
)
_HARMLESS_PARAMETERS: Final = frozenset(
    {
        *("csrftoken", "xsrftoken", "csrfmiddlewaretoken", "authenticitytoken"),
        *("pagetoken", "nexttoken", "nextpagetoken", "startingtoken", "continuationtoken", "synctoken"),
    }
)


def words_of(name: bytes) -> str:
    """Return a name in lower case with one hyphen between its words: `x-api-key` for `X_API..Key`."""
    text = unicodedata.normalize("NFKC", name.decode("utf-8", "replace")).casefold()
    return _BETWEEN_WORDS.sub("-", unicodedata.normalize("NFKC", text)).strip("-")


_KNOWN_PARAMETERS: Final = {words_of(name.encode()): name for name in _PARAMETERS}


def header_word(name: bytes) -> str:
    """Return the name of a header that carries a credential, or `*part*` for the part that tells it; else nothing."""
    words = words_of(name)
    if words.replace("-", "") in _HARMLESS_HEADERS:
        return ""
    if words in _HEADERS:
        return words
    return _telling_part(words) or ("*key*" if words.endswith("-key") or words == "key" else "")


def parameter_word(name: bytes, value: bytes) -> str:
    """Return what `header_word` does, for a parameter of a query with its decoded value.

    `code` is an access key at one large cloud and a one-time login at others, but most often a country or an error: it
    counts from the length on at which a text counts as secret.
    """
    for spelling in _spellings(name):
        words = words_of(spelling)
        if words.replace("-", "") in _HARMLESS_PARAMETERS:
            continue
        base = words_of(spelling.partition(b"[")[0])
        for known in (words, base):
            if known in _KNOWN_PARAMETERS:
                return _KNOWN_PARAMETERS[known]
            if known == "code" and len(value) >= MIN_SECRET_BYTES:
                return "code"
        if part := _telling_part(words):
            return part
    return ""


def _telling_part(words: str) -> str:
    found = _TELLING.search(words)
    return f"*{found[0]}*" if found else ""


def _spellings(name: bytes) -> Iterator[bytes]:
    """Yield a name as it came and as it is after each decoding."""
    yield name
    for _ in range(_DECODINGS):
        decoded = unquote_to_bytes(_PERCENT_U.sub(_of_percent_u, name))
        if decoded == name:
            return
        name = decoded
        yield name


def _of_percent_u(match: re.Match[bytes]) -> bytes:
    return chr(int(match[1], 16)).encode("utf-8", "replace")
