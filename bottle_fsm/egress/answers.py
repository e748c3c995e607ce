"""Injected values on their way: put into an allowed request, and taken out of the answer, should a server echo them.

Not its duty: which requests get what (see `delivered`), and how a value is found in an answer (see `scrub`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mitmproxy import http

from bottle_fsm.egress.injection import Injection, inject
from bottle_fsm.egress.scrub import Scrubber, scrub

INJECTED: Final = "bottle.injected"
"""Mark of a flow: what was put into its request."""
_PARTS: Final = ("range", "if-range")
_NO_BODY: Final = frozenset({204, 304})
_PLAIN: Final = frozenset({"", "identity", "chunked"})


def put_in(flow: http.HTTPFlow, injections: Sequence[Injection]) -> None:
    """Put values into a request that was scanned and allowed.

    The server is asked for a whole and plain answer: in a compressed one, or in a range of bytes, no value would be
    found.
    """
    if not injections:
        return
    request = flow.request
    fields, path = tuple(request.headers.fields), request.path
    for one in injections:
        fields, path = inject(fields, path, one)
    request.headers, request.path = http.Headers(fields), path
    for name in _PARTS:
        request.headers.pop(name, None)
    request.headers["accept-encoding"] = "identity"
    flow.metadata[INJECTED] = tuple(injections)


def stream_answer(flow: http.HTTPFlow) -> bool:
    """Let an answer pass as it comes, without the values that were put into its request.

    Returns:
        False when it cannot be looked through, because it is compressed: the server was asked for a plain one. The
        answer is then unchanged, and must not pass.
    """
    response = flow.response
    injections = _injected(flow)
    if response is None:
        return True
    if not injections:
        response.stream = True
        return True
    response.headers = _scrubbed(response.headers, injections)
    response.reason = scrub(response.reason.encode("latin-1", "replace"), injections).decode("latin-1")
    if flow.request.method.upper() == "HEAD" or response.status_code in _NO_BODY:
        response.stream = _nothing
        return True
    if _is_encoded(response.headers):
        return False
    scrubber = Scrubber(injections)
    _frame(flow.request, response)
    response.stream = lambda data: _pieces(scrubber.feed(data) if data else scrubber.finish())
    return True


def replace_answer(flow: http.HTTPFlow, answer: http.Response) -> None:
    """Send another answer in place of one that has begun; what is still coming of that one is thrown away."""
    left = _pieces(answer.raw_content or b"")
    _frame(flow.request, answer)
    answer.stream = lambda _: [left.pop()] if left else []
    flow.response = answer


def scrub_trailers(flow: http.HTTPFlow) -> None:
    """Take injected values out of the headers that follow the body of an answer."""
    injections = _injected(flow)
    if injections and flow.response is not None and flow.response.trailers:
        flow.response.trailers = _scrubbed(flow.response.trailers, injections)


def _injected(flow: http.HTTPFlow) -> tuple[Injection, ...]:
    found: tuple[Injection, ...] = flow.metadata.get(INJECTED, ())
    return found


def _scrubbed(headers: http.Headers, injections: Sequence[Injection]) -> http.Headers:
    return http.Headers([(scrub(name, injections), scrub(value, injections)) for name, value in headers.fields])


def _is_encoded(headers: http.Headers) -> bool:
    """Tell whether a body does not come byte for byte as it is."""
    codings = ",".join((*headers.get_all("content-encoding"), *headers.get_all("transfer-encoding")))
    return any(word.strip().lower() not in _PLAIN for word in codings.split(","))


def _frame(request: http.Request, response: http.Response) -> None:
    """Let a body of any length follow: in chunks, in frames of HTTP/2, or up to the end of the connection."""
    for name in ("content-length", "transfer-encoding"):
        response.headers.pop(name, None)
    if request.http_version == "HTTP/1.1":
        response.headers["transfer-encoding"] = "chunked"


def _pieces(data: bytes) -> list[bytes]:
    """Return what is to be sent; an empty piece would be the end of a body that comes in chunks."""
    return [data] if data else []


def _nothing(_: bytes) -> list[bytes]:
    return []
