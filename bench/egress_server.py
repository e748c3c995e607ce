"""What the egress benchmark talks to, each in a process of its own: `egress_server.py server|proxy SETTINGS`.

`server` is a web server that answers `/N` with N bytes, inside TLS. `proxy` is mitmproxy with nothing but what opens
TLS: the peer that our interceptor is measured against. Both print a line when they listen.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Bytes(BaseHTTPRequestHandler):
    """Answers `/N` with N bytes, on a connection that stays open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer."""
        body = bytes(int(self.path[1:]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def server(settings: dict[str, Any]) -> None:
    """Serve for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"], settings["key"])
    listening = ThreadingHTTPServer((settings["host"], settings["port"]), Bytes)
    # the handshake belongs to each connection's own thread
    listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    listening.request_queue_size = 128
    print("ready", flush=True)
    listening.serve_forever()


def proxy(settings: dict[str, Any]) -> None:
    """Serve for ever."""
    from mitmproxy.addons.next_layer import NextLayer  # noqa: PLC0415 - of the sidecars' environment
    from mitmproxy.addons.proxyserver import Proxyserver  # noqa: PLC0415
    from mitmproxy.addons.tlsconfig import TlsConfig  # noqa: PLC0415
    from mitmproxy.master import Master  # noqa: PLC0415
    from mitmproxy.options import Options  # noqa: PLC0415

    class Streaming:
        """Streams answers as our interceptor does, and says when it listens."""

        def running(self) -> None:
            print("ready", flush=True)

        def responseheaders(self, flow: Any) -> None:
            flow.response.stream = True

    async def run() -> None:
        master = Master(Options(listen_host=settings["host"], listen_port=settings["listen"]))
        master.addons.add(Proxyserver(), NextLayer(), TlsConfig(), Streaming())
        master.options.update(
            confdir=settings["confdir"],
            connection_strategy="lazy",
            ssl_insecure=True,  # it is asked for an address, which no certificate names: it does less than we do
        )
        await master.run()

    asyncio.run(run())


if __name__ == "__main__":
    {"server": server, "proxy": proxy}[sys.argv[1]](json.loads(sys.argv[2]))
