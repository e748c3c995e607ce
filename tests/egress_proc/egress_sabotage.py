"""The interceptor with one function broken: `BREAK=place.function` makes it raise as its first act.

`BREAK=loose` instead lets mitmproxy choose its layers itself, raw TCP and WebSockets included, so that the addon's
last hooks are the only thing that stands in the way. `BREAK=direct` sends an allowed request straight to the address in
`DIRECT`, past the guard, so that the last look at each connection is all that is left.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.connection import Server

from bottle_fsm.egress import addon, answers, delivered, doors, interceptor, judge, known, scrub


def _raise(*_: Any) -> None:
    raise RuntimeError("broken on purpose")


def _loose_layer(self: Any, nextlayer: Any) -> None:
    stock = NextLayer()
    if len(nextlayer.context.layers) > 1 and nextlayer.data_client()[:1] != b"\x16":
        stock.next_layer(nextlayer)
    else:
        nextlayer.layer = self._choose(nextlayer.context, nextlayer.data_client())


def _send_directly(self: Any, flow: Any) -> None:
    send_by_guard(self, flow)
    host, _, port = os.environ["DIRECT"].partition(":")
    flow.server_conn = Server(address=(host, int(port)))
    flow.server_conn.sni = flow.request.host


PLACES: dict[str, Any] = {
    "addon": addon.EgressAddon,
    "doors": doors.StrictNextLayer,
    "tls": doors.ClearedTls,
    "judge": judge.Judge,
    "delivered": delivered.Delivered,
    "known": known.KnownSecrets,
    "addon-module": addon,
    "judge-module": judge,
    "answers-module": answers,
    "scrubber": scrub.Scrubber,
}
send_by_guard = addon.EgressAddon._send_by_guard


def main() -> int:
    broken = os.environ["BREAK"]
    if broken == "loose":
        setattr(doors.StrictNextLayer, "next_layer", _loose_layer)  # noqa: B010 - an assignment would not type
        interceptor.STRICT_OPTIONS.update({"rawtcp": True, "websocket": True})
    elif broken == "direct":
        setattr(addon.EgressAddon, "_send_by_guard", _send_directly)  # noqa: B010 - as above
    else:
        owner, _, hook = broken.partition(".")
        found = PLACES[owner]
        assert callable(getattr(found, hook))
        setattr(found, hook, _raise)
    return interceptor.main()


if __name__ == "__main__":
    sys.exit(main())
