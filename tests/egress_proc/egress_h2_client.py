"""An HTTP/2 client in the sidecars' environment, for what curl cannot send: trailers, and line breaks inside a head.

Arguments: proxy address, proxy port, CA file, path, value of a header, value of a trailer (may be
empty), body, which is sent without a length. Prints the answer's status,
or `reset` when the proxy ended stream or connection instead.
"""

from __future__ import annotations

import socket
import ssl
import sys

from h2.config import H2Configuration  # type: ignore[import-not-found]  # in the sidecars' environment
from h2.connection import H2Connection  # type: ignore[import-not-found]  # in the sidecars' environment
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset  # type: ignore[import-not-found]  # as above


def main() -> int:
    host, port, ca, path, header, trailer, body = sys.argv[1:]
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.sendall(b"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n")
    assert b" 200 " in sock.recv(4096)
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    wrapped = context.wrap_socket(sock, server_hostname="allowed.test")
    # The client's own checks are off: it has to send what a careful one would not.
    loose = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(loose)
    connection.initiate_connection()
    head = [(":method", "POST"), (":scheme", "https"), (":authority", "allowed.test"), (":path", path)]
    connection.send_headers(1, [*head, ("x-header", header)])
    connection.send_data(1, body.encode(), end_stream=not trailer)
    if trailer:
        name, _, value = trailer.rpartition(": ")
        connection.send_headers(1, [(name or "x-trailer", value)], end_stream=True)
    wrapped.sendall(connection.data_to_send())
    while data := wrapped.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                sys.stdout.write(dict(event.headers)[b":status"].decode())
                return 0
            if isinstance(event, (StreamReset, ConnectionTerminated)):
                sys.stdout.write("reset")
                return 0
    sys.stdout.write("reset")
    return 0


if __name__ == "__main__":
    sys.exit(main())
