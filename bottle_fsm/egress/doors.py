"""Which protocol may follow on a connection, and who gets a TLS handshake: mitmproxy's choices, made strict.

Only three things are ever built: HTTP to the proxy, TLS inside a tunnel, HTTP inside that. Raw TCP, DNS, QUIC and
WebSocket layers do not exist here. Not its duty: which hosts are allowed (see `verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.tls import TlsData

from bottle_fsm.egress.bounded_http import BodyBudget, BoundedHttpLayer, Refuser
from bottle_fsm.egress.jsonlines import JsonLines

_TLS_PREFIX = 3


@dataclass(slots=True)
class Clearances:
    """What was explicitly allowed on live connections; what is not in here is refused.

    Attributes:
        tunnels: client connection → host and port of its accepted CONNECT, and whether TLS has to follow.
        tls: client connections whose ClientHello was accepted.
        upstream: connections to the guard that were accepted, and get the guard's token.
    """

    tunnels: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    tls: set[str] = field(default_factory=set)
    upstream: set[str] = field(default_factory=set)

    def target(self, client: str) -> tuple[str, int] | None:
        """Return host and port of a client's accepted CONNECT."""
        found = self.tunnels.get(client)
        return found[:2] if found else None

    def forget(self, client: str) -> None:
        """Forget a client connection that has ended."""
        self.tunnels.pop(client, None)
        self.tls.discard(client)


class ClosedDoor(layer.Layer):  # type: ignore[misc]  # mitmproxy lives in the sidecars' environment only
    """The layer for everything that is not allowed: it closes the connection."""

    def _handle_event(self, event: Any) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


class StrictNextLayer:
    """Chooses the next layer of a connection."""

    name = "nextlayer"

    def __init__(self, clearances: Clearances, refuser: Refuser, budget: BodyBudget, log: JsonLines) -> None:
        self._clearances = clearances
        self._refuser = refuser
        self._budget = budget
        self._log = log

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Set the next layer; while more bytes are needed to tell, set none."""
        chosen = self._choose(nextlayer.context, nextlayer.data_client())
        if isinstance(chosen, ClosedDoor):
            host, port = self._clearances.target(nextlayer.context.client.id) or ("", 0)
            self._log.write("decision", host=host, port=port, action="deny", reason="protocol_not_allowed")
        nextlayer.layer = chosen

    def _choose(self, ctx: Any, data: bytes) -> layer.Layer | None:
        tunnel = self._clearances.tunnels.get(ctx.client.id)
        if tunnel is None:
            return ClosedDoor(ctx) if data[:1] == b"\x16" else self._http(ctx, HTTPMode.regular)
        if ctx.client.tls_established or not tunnel[2]:
            return ClosedDoor(ctx) if data[:1] == b"\x16" else self._http(ctx, HTTPMode.transparent)
        if len(data) < _TLS_PREFIX and b"\x16\x03".startswith(data[:2]):
            return None
        if not starts_like_tls_record(data):
            return ClosedDoor(ctx)
        server_tls = ServerTLSLayer(ctx)
        server_tls.child_layer = ClientTLSLayer(ctx)
        return server_tls

    def _http(self, ctx: Any, mode: HTTPMode) -> BoundedHttpLayer:
        return BoundedHttpLayer(ctx, mode, refuser=self._refuser, budget=self._budget)


class ClearedTls(TlsConfig):  # type: ignore[misc]  # as above
    """mitmproxy's TLS settings, given only to clients whose ClientHello was accepted; others are cut off."""

    name = "tlsconfig"

    def __init__(self, clearances: Clearances) -> None:
        super().__init__()
        self._clearances = clearances

    def tls_start_client(self, tls_start: TlsData) -> None:
        """Provide the settings of a handshake with the agent, or none, which ends the connection."""
        if tls_start.conn.id in self._clearances.tls:
            super().tls_start_client(tls_start)
