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


def stream_answer(flow: http.HTTPFlow) -> None:
    """Let an answer pass as it comes, without the values that were put into its request."""
    response = flow.response
    if response is None:
        return
    injections = flow.metadata.get(INJECTED, ())
    if not injections:
        response.stream = True
        return
    response.headers = http.Headers([(name, scrub(value, injections)) for name, value in response.headers.fields])
    response.reason = scrub(response.reason.encode("latin-1", "replace"), injections).decode("latin-1")
    if flow.request.method.upper() == "HEAD" or response.status_code in _NO_BODY:
        response.stream = True
        return
    scrubber = Scrubber(injections)
    response.headers.pop("content-length", None)
    if flow.request.is_http2:
        response.headers.pop("transfer-encoding", None)
    else:
        response.headers["transfer-encoding"] = "chunked"
    response.stream = lambda data: scrubber.feed(data) if data else scrubber.finish()
