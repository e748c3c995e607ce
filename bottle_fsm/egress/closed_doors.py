"""Hooks for protocols that no layer is ever built for: if one were, nothing would pass it.

Not its duty: the choice of layers (see `doors`), which is what really keeps these protocols out.
"""

from __future__ import annotations

from mitmproxy import dns, http, tcp

from bottle_fsm.egress.refusals import killed


class ClosedDoors:
    """Refuses raw TCP, DNS and WebSockets."""

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        """Refuse raw TCP; its connection is then refused by `server_connect`, too."""
        flow.error = killed()

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        """Let no byte of raw TCP pass."""
        flow.messages[-1].content = b""

    def dns_request(self, flow: dns.DNSFlow) -> None:
        """Refuse DNS."""
        flow.error = killed()

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """Refuse WebSockets."""
        flow.kill()

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Let no WebSocket message pass."""
        if flow.websocket is not None:
            flow.websocket.messages[-1].drop()
