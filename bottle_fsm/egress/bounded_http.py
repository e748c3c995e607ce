"""mitmproxy's HTTP layer with bounds: a refusal is answered before the body is read, and bodies have a limit.

mitmproxy would read a refused request's body to its end before it answers, without limit. Not its duty: deciding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from mitmproxy import http
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpLayer,
    HTTPMode,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from bottle_fsm.egress.content import MAX_BODY

UNDECIDED: Final = "bottle.undecided"
"""Mark of a flow whose head was allowed and whose body is awaited; without it the refusal is final."""
LINGER: Final = 4 * 1024 * 1024
"""How much of a refused body is read and thrown away, so that the client gets to read the answer."""
BUDGET: Final = 8 * MAX_BODY
BROKEN: Final = "the request or its answer breaks the rules of HTTP"


class Refuser(Protocol):
    """Makes and records the refusals that the layer itself has to give."""

    def undecided(self, flow: http.HTTPFlow) -> http.Response:
        """Return the answer when deciding itself failed."""

    def body_too_large(self, flow: http.HTTPFlow) -> http.Response:
        """Return the answer to a body above the limit."""

    def upstream_failed(self, flow: http.HTTPFlow, message: str) -> http.Response:
        """Return the answer when no connection through the guard could be made."""


class BodyBudget:
    """How many bytes of request bodies are held at once, over all connections."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = limit
        self._held: dict[tuple[str, int], int] = {}

    def hold(self, client: str, stream: int, size: int) -> bool:
        """Record that a stream holds so many bytes; tell whether that is within the budget."""
        self._held[client, stream] = size
        return sum(self._held.values()) <= self._limit

    def drop(self, client: str, stream: int | None = None) -> None:
        """Forget one stream of a client, or all of them."""
        self._held = {key: size for key, size in self._held.items() if key[0] != client or stream not in {None, key[1]}}


class BoundedStream(HttpStream):  # type: ignore[misc]  # mitmproxy lives in the sidecars' environment only
    """One request and its response, with an early answer and a body limit."""

    refuser: Refuser
    budget: BodyBudget
    client_state: Any
    _discarded = 0

    def handle_event(self, event: events.Event) -> Iterator[Any]:
        """Pass events on; what a finished stream held is given back.

        An empty piece of an answer, which HTTP/2 can carry, is left out: mitmproxy tells a function that streams of the
        end by an empty piece. The text of an error can repeat what a server sent, so the agent gets ours.
        """
        if isinstance(event, ResponseData) and not event.data:
            return
        for command in super().handle_event(event):
            if isinstance(command, DropStream):
                self.budget.drop(self.context.client.id, self.stream_id)
            if isinstance(command, SendHttp) and isinstance(command.event, ResponseProtocolError):
                command.event = replace(command.event, message=BROKEN)
            yield command

    def state_wait_for_request_headers(self, event: Any) -> layer.CommandGenerator[None]:
        """Judge the head; a refused request with a body still to come is answered at once."""
        yield from super().state_wait_for_request_headers(event)
        waiting = self.client_state == self.state_consume_request_body
        if waiting and not event.end_stream and UNDECIDED not in self.flow.metadata:
            yield from self._answer_early()

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:  # noqa: FBT001 - mitmproxy's signature
        """Refuse a request body above the limit; responses are streamed and have none."""
        size = len(self.request_body_buf) if request else 0
        if not size:
            return False
        within = self.budget.hold(self.context.client.id, self.stream_id, size)
        if size <= MAX_BODY and within:
            return False
        self.request_body_buf.clear()
        self.flow.response = self.refuser.body_too_large(self.flow)
        yield from self._answer_early()
        return True

    def handle_protocol_error(self, event: Any) -> layer.CommandGenerator[None]:
        """Answer a failed connection through the guard in our own words instead of an HTML page."""
        failed_to_connect = isinstance(event, ResponseProtocolError) and self.flow.response is None
        if not failed_to_connect or self.client_state == self.state_errored:
            yield from super().handle_protocol_error(event)
            return
        self.flow.response = self.refuser.upstream_failed(self.flow, event.message)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield from self._send_answer()
        yield DropStream(self.stream_id)

    def _answer_early(self) -> layer.CommandGenerator[None]:
        if self.flow.response is None:
            self.flow.response = self.refuser.undecided(self.flow)
        if not self.flow.request.is_http2:
            self.flow.response.headers["Connection"] = "close"
        self.client_state = self.state_discard
        self.server_state = self.state_errored
        self.flow.live = False
        yield from self._send_answer()

    def _send_answer(self) -> layer.CommandGenerator[None]:
        response, client = self.flow.response, self.context.client
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content), client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), client)

    def state_discard(self, event: Any) -> layer.CommandGenerator[None]:
        """Throw away what is still coming after the answer, up to a limit, then cut the connection."""
        if isinstance(event, RequestEndOfMessage):
            yield DropStream(self.stream_id)
        elif isinstance(event, RequestData):
            self._discarded += len(event.data)
            if self._discarded > LINGER:
                self.client_state = self.state_errored
                yield commands.CloseConnection(self.context.client)


class BoundedHttpLayer(HttpLayer):  # type: ignore[misc]  # as above
    """mitmproxy's HTTP layer whose streams are bounded."""

    def __init__(self, ctx: context.Context, mode: HTTPMode, *, refuser: Refuser, budget: BodyBudget) -> None:
        super().__init__(ctx, mode)
        self._refuser = refuser
        self._budget = budget

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Begin a bounded stream."""
        stream = BoundedStream(self.context.fork(), stream_id)
        stream.refuser, stream.budget = self._refuser, self._budget
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())
