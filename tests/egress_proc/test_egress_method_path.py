"""A rule with methods and paths: what gets through real sidecars, counted at the server and at the guard."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from egress_proc.egress_sidecars import GATE_HOST, Stack, World

RULE = "https://api.test:443"


@pytest.mark.parametrize(
    "target",
    [
        "/user",
        "/user?page=2&q=/../x",
        "/repos/acme/widget",
        "/repos/acme/widget/pulls/3?state=open",
        "/repos/acme/a%20b/%C3%BC/c:d@e,f=(g)!$&'*+h~._-",
    ],
)
def test_an_allowed_path_arrives_byte_for_byte(stack: Stack, world: World, target: str) -> None:
    before = len(world.allowed.requests)
    answer = stack.get("api.test", target)
    assert answer is not None
    assert answer.status == 200
    assert [seen.line for seen in world.allowed.requests[before:]] == [f"GET {target} HTTP/1.1"]


@pytest.mark.parametrize(
    ("line", "headers", "reason"),
    [
        ("POST /user", "Content-Length: 0\r\n", "method_not_allowed"),
        ("DELETE /repos/acme/widget", "", "method_not_allowed"),
        ("get /user", "", "method_not_allowed"),
        ("OPTIONS /user", "", "method_not_allowed"),
        ("GET /", "", "path_not_allowed"),
        ("GET /user/", "", "path_not_allowed"),
        ("GET /repos/acme-evil/x", "", "path_not_allowed"),
        ("GET /x?/repos/acme/", "", "path_not_allowed"),
        ("GET /repos/acme/../../x%2f..", "", "path_ambiguous"),
        ("GET /repos/acme/../evil", "", "path_ambiguous"),
        ("GET /repos/acme/./x", "", "path_ambiguous"),
        ("GET /repos/acme/..%2Fevil", "", "path_ambiguous"),
        ("GET /repos/acme/%2e%2e/evil", "", "path_ambiguous"),
        ("GET /repos/acme/%252e%252e/evil", "", "path_ambiguous"),
        ("GET /repos/acme/..\\evil", "", "path_ambiguous"),
        ("GET /repos/acme/..%5cevil", "", "path_ambiguous"),
        ("GET /repos/acme/x%00", "", "path_ambiguous"),
        ("GET /repos/acme//x", "", "path_ambiguous"),
        ("GET /repos/acme/..;/evil", "", "path_ambiguous"),
        ("GET /repos/acme/x#/y", "", "path_ambiguous"),
        ("GET /repos/acme/\u00fc", "", "path_ambiguous"),
        ("GET /repos/acme/%c0%ae%c0%ae/x", "", "path_ambiguous"),
        ("GET /user", "X-Original-URL: /admin\r\n", "path_ambiguous"),
        ("GET /user", "X-HTTP-Method-Override: DELETE\r\n", "method_override"),
        ("GET /user", "x-method-override: DELETE\r\n", "method_override"),
        ("GET /user?_method=DELETE", "", "method_override"),
        ("GET /user?%5Fmethod=DELETE", "", "method_override"),
    ],
)
def test_anything_else_is_refused_before_anything_is_sent(
    stack: Stack, world: World, line: str, headers: str, reason: str
) -> None:
    before, tunnels = len(world.allowed.requests), stack.tunnels
    answer = stack.https("api.test:443", f"{line} HTTP/1.1\r\nHost: api.test\r\n{headers}\r\n")
    assert answer is not None
    assert (answer.status, answer.json["reason"], answer.json["rule"]) == (403, reason, RULE)
    assert (len(world.allowed.requests), stack.tunnels) == (before, tunnels)
    last = stack.decisions[-1]
    assert (last["action"], last["rule"], last["by"], last["status"]) == ("deny", RULE, "interceptor", 403)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("https://api.test/repos/acme/../../x",), "path_ambiguous"),
        (("https://api.test/repos/acme/x%2fy",), "path_ambiguous"),
        (("https://api.test/repos",), "path_not_allowed"),
        (("-X", "PUT", "https://api.test/user"), "method_not_allowed"),
        (("-d", "x=1", "https://api.test/user"), "method_not_allowed"),
        (("-H", "X-HTTP-Method: PUT", "https://api.test/user"), "method_override"),
    ],
)
def test_both_versions_of_http_are_held_to_the_same(
    stack: Stack, world: World, version: str, arguments: tuple[str, ...], reason: str
) -> None:
    before = len(world.allowed.requests)
    done = stack.curl(version, "--path-as-is", *arguments)
    assert f'"reason": "{reason}"' in done.stdout
    assert len(world.allowed.requests) == before


def test_a_host_without_limits_gets_paths_as_they_are(stack: Stack, world: World) -> None:
    answer = stack.get("allowed.test", "/@scope%2fname/../x//y;z?_method=PUT")
    assert answer is not None
    assert answer.status == 200
    assert world.allowed.requests[-1].line == "GET /@scope%2fname/../x//y;z?_method=PUT HTTP/1.1"


@pytest.mark.parametrize(
    ("question", "decision", "by", "reason"),
    [
        ("", "allow", "guard", ""),
        ("&method=HEAD&path=/user", "allow", "guard", ""),
        ("&method=POST", "deny", "interceptor", "method_not_allowed"),
        ("&path=/x", "deny", "interceptor", "path_not_allowed"),
        (f"&path={quote('/repos/acme/%2e', safe='')}", "deny", "interceptor", "path_ambiguous"),
    ],
)
def test_the_gate_tells_what_it_would_decide_and_sends_nothing(  # noqa: PLR0917 - the columns of a table
    stack: Stack, world: World, question: str, decision: str, by: str, reason: str
) -> None:
    before, tunnels = len(world.allowed.requests), stack.tunnels
    answer = stack.get(GATE_HOST, f"/verdict?host=api.test&port=443{question}")
    assert answer is not None
    found = {name: answer.json[name] for name in ("decision", "by", "reason", "rule")}
    assert found == {"decision": decision, "by": by, "reason": reason, "rule": RULE}
    assert (len(world.allowed.requests), stack.tunnels) == (before, tunnels)
