"""pipelock's own audit lines, brought to the fields that our sidecars write. Pure.

Some of its lines hold a whole URL, and its reasons quote what was found: no path, no query and no text of its own
passes, and a host only where the scanner that refused it looked for no secret. The interceptor's line about the same
request has the path.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.policy import HTTPS_PORT
from bottle_fsm.model import Json
from bottle_fsm.naming import ROLE_GUARD

_ACTIONS: Final = {
    "tunnel_open": "allow",
    "tunnel_close": "close",
    "blocked": "deny",
    "body_dlp": "deny",
    "header_dlp": "deny",
    "anomaly": "",
    "error": "error",
}
_OPEN: Final = frozenset({"", "allowlist", "blocklist", "ratelimit", "rate_limit", "scheme", "sni", "ssrf"})
"""Scanners that look at names, addresses and numbers alone."""
_WORD: Final = re.compile(r"[a-z][a-z_]{0,23}")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_REQUEST: Final = re.compile(r"req-[0-9]{1,15}")


def mapped(value: Json, event: str) -> Json | None:
    """Return a line's fields; those that pipelock does not know are left out. None when it is no decision."""
    if event not in _ACTIONS:
        return None
    scanner = str(value.get("scanner", ""))
    host, port = _target(value) if scanner in _OPEN and not event.endswith("_dlp") else ("", 0)
    request = _matching(_REQUEST, value.get("request_id"))
    return {
        "host": host,
        "port": port,
        "method": _matching(_METHOD, value.get("method")) or ("CONNECT" if event.startswith("tunnel_") else ""),
        "action": _ACTIONS[event],
        "reason": _matching(_WORD, value.get("scanner")) or ("" if event.startswith("tunnel_") else event),
        "by": ROLE_GUARD,
        "bytes": value.get("total_bytes", 0),
        "ms": value.get("duration_ms", 0.0),
        **({"request_id": request} if request else {}),
    }


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _target(value: Json) -> tuple[str, int]:
    """Return host and port of a line's target or URL; nothing when there is no host name."""
    text = value.get("target") or value.get("url")
    if not isinstance(text, str):
        return "", 0
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        return normalise_host(parts.hostname or ""), parts.port or (80 if parts.scheme == "http" else HTTPS_PORT)
    except ValueError:
        return "", 0
