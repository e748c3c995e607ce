"""What the addon reads from a request's head, and what it changes there before the request goes on."""

from __future__ import annotations

from typing import Any, Final

from mitmproxy import http

_HOP_HEADERS: Final = ("upgrade", "http2-settings", "proxy-authorization", "proxy-connection", "keep-alive")


def announced_length(request: http.Request) -> int:
    """Return the body length that a request announces; a malformed one was refused by mitmproxy before."""
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def text_of_fields(headers: Any) -> str:
    """Return headers or trailers as the text that the guard is asked about."""
    return "\n".join(f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers.fields)


def strip_hop_headers(request: http.Request) -> None:
    """Take away what only concerns this hop: a request to upgrade the connection never reaches a server."""
    for name in _HOP_HEADERS:
        request.headers.pop(name, None)
    kept = [
        word
        for word in ",".join(request.headers.get_all("connection")).split(",")
        if word.strip().lower() not in {"", "upgrade", "http2-settings", "keep-alive"}
    ]
    request.headers.pop("connection", None)
    if kept:
        request.headers["Connection"] = ",".join(kept)


def frame_body(request: http.Request) -> None:
    """Say how long a body is that came by HTTP/2, which needs no such header.

    A server of HTTP/1 would take an unframed body for the next request, with a head that nobody has looked at.
    """
    if request.is_http2 and (request.raw_content or "content-length" in request.headers):
        request.headers["content-length"] = str(len(request.raw_content or b""))
