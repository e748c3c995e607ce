"""Calls the addon's last hooks: for protocols without a layer, and for connections to others than the guard."""

from __future__ import annotations

import sys
from pathlib import Path

from mitmproxy.connection import Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from bottle_fsm.egress.addon import Egress, EgressAddon
from bottle_fsm.egress.bounded_http import BodyBudget
from bottle_fsm.egress.delivered import DeliveredSecrets
from bottle_fsm.egress.doors import Clearances
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.refusals import DecisionLog
from bottle_fsm.egress.scan import ScanClient
from bottle_fsm.egress.settings import Address

GUARD = ("127.0.0.1", 8888)
OTHERS = [("127.0.0.1", 8889), ("127.0.0.2", 8888), ("allowed.test", 443), ("::1", 8888), ("", 8888), None]


def connect(addon: EgressAddon, address: tuple[str, int] | None) -> str | None:
    """Return the error that a connection to an address is given, which mitmproxy then does not make."""
    data = ServerConnectionHookData(server=Server(address=address), client=tflow.tclient_conn())
    addon.server_connect(data)
    error: str | None = data.server.error
    return error


def main() -> int:
    policy = compile_policy(bottle="p/a", launch="l", allow=[("allowed.test", 443)])
    egress = Egress(
        policy=policy,
        guard=Address(*GUARD),
        scans=ScanClient("127.0.0.1", 9090, agent="p/a"),
        secrets=DeliveredSecrets(Path("/nowhere")),
        log=DecisionLog(JsonLines()),
    )
    addon = EgressAddon(egress, Clearances(), BodyBudget())
    raw = tflow.ttcpflow()
    addon.tcp_start(raw)
    addon.tcp_message(raw)
    assert raw.error is not None
    assert raw.messages[-1].content == b""
    question = tflow.tdnsflow()
    addon.dns_request(question)
    assert question.error is not None
    socket_flow = tflow.twebsocketflow()
    socket_flow.error = None
    socket_flow.live = True
    addon.websocket_start(socket_flow)
    addon.websocket_message(socket_flow)
    assert socket_flow.error is not None
    assert socket_flow.websocket is not None
    assert socket_flow.websocket.messages[-1].dropped
    assert connect(addon, GUARD) is None
    assert {connect(addon, other) for other in OTHERS} == {"refused: not the guard"}
    sys.stdout.write("closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
