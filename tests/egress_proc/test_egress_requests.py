"""What gets through the sidecars and what does not, counted at the server and at the guard."""

from __future__ import annotations

from egress_sidecars import Stack, World


def test_lets_an_allowed_request_arrive_exactly_once(stack: Stack, world: World) -> None:
    before, tunnels = len(world.allowed.requests), stack.tunnels
    answer = stack.get("allowed.test", "/once?q=1")
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"hello from the server")
    arrived = world.allowed.requests[before:]
    assert [seen.line for seen in arrived] == ["GET /once?q=1 HTTP/1.1"]
    assert stack.tunnels == tunnels + 1
