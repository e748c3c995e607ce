"""The interceptor's decisions over plain data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.policy import EgressPolicy, compile_policy
from bottle_fsm.egress.rule import METHODS, Rule
from bottle_fsm.egress.verdict import (
    Decision,
    Request,
    asked_verdict,
    connect_verdict,
    relay_verdict,
    request_verdict,
    tls_verdict,
)
from bottle_fsm.places import GATE_HOST

POLICY = compile_policy(
    bottle="p/a",
    launch="l",
    allow=[("a.com", 443), ("a.com", 80), ("*.w.com", 443), ("b.com", 8443)],
    ssh=[("g.com", 22)],
)
GOOD = Request(
    scheme="https",
    host="a.com",
    port=443,
    connect=("a.com", 443),
    tls=True,
    sni="a.com",
    authority="",
    hosts=("a.com",),
    method="GET",
    path="/x?y",
)
PLAIN = replace(GOOD, scheme="http", port=80, connect=None, tls=False, sni=None)


@pytest.mark.parametrize(
    "request_",
    [
        GOOD,
        PLAIN,
        replace(PLAIN, connect=("a.com", 80)),
        replace(GOOD, hosts=("A.COM.:443",)),
        replace(GOOD, hosts=(), authority="a.com", http2=True),
        replace(GOOD, authority="a.com:443", http2=True),
        replace(GOOD, method="VERSION-CONTROL"),
        replace(GOOD, host="A.com", sni="A.COM", connect=("a.com.", 443)),
        replace(GOOD, host="x.w.com", sni="x.w.com", hosts=("x.w.com",), connect=("x.w.com", 443)),
        replace(GOOD, host="b.com", port=8443, sni="b.com", hosts=("b.com:8443",), connect=("b.com", 8443)),
    ],
)
def test_allows_what_agrees_with_itself_and_a_rule(request_: Request) -> None:
    decision = request_verdict(POLICY, request_)
    assert (decision.allow, decision.reason) == (True, "")
    assert decision.rule


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "TRACE"}, "method_refused"),
        ({"method": "trace"}, "method_refused"),
        ({"method": ""}, "method_refused"),
        ({"method": "CONNECT"}, "method_refused"),
        ({"method": "PRI"}, "method_refused"),
        ({"method": "G\x00"}, "method_refused"),
        ({"path": "*"}, "target_form_refused"),
        ({"path": ""}, "target_form_refused"),
        ({"path": "x"}, "target_form_refused"),
        ({"connect": None}, "tls_to_proxy"),
        ({"path": "/ HTTP/1.1"}, "target_malformed"),
        ({"path": "/\r\nHost: e.com"}, "target_malformed"),
        ({"path": "/\x00"}, "target_malformed"),
        ({"path": "/\x7f"}, "target_malformed"),
        ({"values": (b"fine", b"x\r\nHost: e.com")}, "header_malformed"),
        ({"values": (b"x\ny",)}, "header_malformed"),
        ({"values": (b"\x00",)}, "header_malformed"),
        ({"authority": "a.com"}, "absolute_form_in_tunnel"),
        ({"scheme": "http"}, "scheme_mismatch"),
        ({"scheme": ""}, "scheme_mismatch"),
        ({"tls": False}, "scheme_mismatch"),
        ({"hosts": ("a.com", "a.com")}, "host_header_repeated"),
        ({"hosts": ()}, "host_header_missing"),
        ({"hosts": ("",)}, "host_mismatch"),
        ({"hosts": ("x.w.com",)}, "host_mismatch"),
        ({"hosts": ("a.com:80",)}, "host_mismatch"),
        ({"hosts": ("a.com:x",)}, "host_not_a_name"),
        ({"hosts": ("1.2.3.4",)}, "host_not_a_name"),
        ({"authority": "x.w.com", "http2": True}, "host_mismatch"),
        ({"authority": "u@a.com", "http2": True}, "host_not_a_name"),
        ({"connect": ("x.w.com", 443)}, "connect_mismatch"),
        ({"connect": ("a.com", 8443)}, "connect_mismatch"),
        ({"sni": None}, "sni_mismatch"),
        ({"sni": ""}, "sni_mismatch"),
        ({"sni": "x.w.com"}, "sni_mismatch"),
        ({"sni": "%"}, "sni_mismatch"),
    ],
)
def test_refuses_what_does_not(change: dict[str, Any], reason: str) -> None:
    decision = request_verdict(POLICY, replace(GOOD, **change))
    assert (decision.allow, decision.reason) == (False, reason)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(PLAIN, port=8080, hosts=("a.com:8080",)), "plain_http_port"),
        (replace(PLAIN, host="x.w.com", hosts=("x.w.com",)), "not_listed"),
        (replace(PLAIN, host=GATE_HOST, hosts=(GATE_HOST,)), "gate_needs_tls"),
        (replace(GOOD, host="e.com", sni="e.com", hosts=("e.com",), connect=("e.com", 443)), "not_listed"),
        (replace(GOOD, host="a.com", port=80, hosts=("a.com:80",), connect=("a.com", 80)), "protocol_not_allowed"),
        (
            replace(GOOD, host="g.com", port=22, sni="g.com", hosts=("g.com:22",), connect=("g.com", 22)),
            "protocol_not_allowed",
        ),
    ],
)
def test_refuses_a_destination_without_a_rule_for_it(request_: Request, reason: str) -> None:
    decision = request_verdict(POLICY, request_)
    assert (decision.allow, decision.reason) == (False, reason)


@given(
    scheme=st.sampled_from(["http", "https", ""]),
    host=st.sampled_from(["a.com", "x.w.com", "e.com", "10.0.0.1", GATE_HOST]),
    port=st.sampled_from([80, 443, 8443]),
    connect=st.none() | st.tuples(st.sampled_from(["a.com", "e.com", "x.w.com"]), st.sampled_from([80, 443])),
    tls=st.booleans(),
    sni=st.none() | st.sampled_from(["a.com", "e.com", "x.w.com", ""]),
    authority=st.sampled_from(["", "a.com", "e.com"]),
    hosts=st.lists(st.sampled_from(["a.com", "e.com", "x.w.com", "A.COM:443"]), max_size=2).map(tuple),
    method=st.sampled_from(["GET", "POST", "TRACE", "x y"]),
    path=st.sampled_from(["/", "*", "http://a.com/"]),
    http2=st.booleans(),
)
def test_allows_only_when_every_name_is_the_same(**fields: Any) -> None:
    request_ = Request(**fields)
    if not request_verdict(POLICY, request_).allow:
        return
    names = {
        request_.host,
        *(name.lower().partition(":")[0] for name in request_.hosts),
        *filter(None, [request_.authority]),
    }
    names |= {request_.sni or ""} if request_.tls else set()
    names |= {request_.connect[0]} if request_.connect else set()
    assert len(names) == 1
    assert POLICY.match(request_.host, request_.port) is not None
    assert request_.tls == (request_.port != 80)


def test_answers_the_gate_over_tls_only_and_to_reading_methods() -> None:
    gate = replace(GOOD, host=GATE_HOST, sni=GATE_HOST, hosts=(GATE_HOST,), connect=(GATE_HOST, 443))
    assert request_verdict(POLICY, gate).rule == "gate"
    assert request_verdict(POLICY, replace(gate, method="HEAD")).allow
    assert request_verdict(POLICY, replace(gate, method="POST")).reason == "method_refused"


@pytest.mark.parametrize(
    ("host", "port", "allow", "reason"),
    [
        ("a.com", 443, True, ""),
        ("a.com", 80, True, ""),
        ("A.com.", 443, True, ""),
        (GATE_HOST, 443, True, ""),
        (GATE_HOST, 80, False, "not_listed"),
        ("a.com", 53, False, "not_listed"),
        ("g.com", 22, False, "protocol_not_allowed"),
        ("1.1.1.1", 443, False, "host_not_a_name"),
        ("::1", 443, False, "host_not_a_name"),
    ],
)
def test_decides_about_connect(host: str, port: int, allow: bool, reason: str) -> None:
    decision = connect_verdict(POLICY, host, port)
    assert (decision.allow, decision.reason) == (allow, reason)
    assert connect_verdict(POLICY, host, port, tls_to_proxy=True).reason == "tls_to_proxy"


def test_relays_only_declared_raw_tcp() -> None:
    assert relay_verdict(POLICY, "g.com", 22).allow
    assert relay_verdict(POLICY, "a.com", 443).reason == "protocol_not_allowed"
    assert relay_verdict(POLICY, GATE_HOST, 443).reason == "not_listed"


@pytest.mark.parametrize(
    ("connect", "sni", "allow", "reason"),
    [
        (("a.com", 443), "a.com", True, ""),
        (("a.com", 443), "A.COM.", True, ""),
        ((GATE_HOST, 443), GATE_HOST, True, ""),
        (None, "a.com", False, "tls_to_proxy"),
        (("a.com", 443), None, False, "sni_missing"),
        (("a.com", 443), "x.w.com", False, "sni_mismatch"),
        (("a.com", 443), "", False, "sni_mismatch"),
        (("e.com", 443), "e.com", False, "not_listed"),
        (("a.com", 80), "a.com", False, "protocol_not_allowed"),
        (("g.com", 22), "g.com", False, "protocol_not_allowed"),
    ],
)
def test_decides_about_tls(
    connect: tuple[str, int] | None,
    sni: str | None,
    allow: bool,
    reason: str,
) -> None:
    decision = tls_verdict(POLICY, connect, sni)
    assert (decision.allow, decision.reason) == (allow, reason)


def limited(**wishes: Any) -> EgressPolicy:
    return compile_policy(bottle="p/a", launch="l", allow=[{"host": "a.com", "port": 443, **wishes}, ("a.com", 80)])


API = limited(methods=["GET", "HEAD"], paths=["/repos/acme/*", "/user"])
ASKED = replace(GOOD, path="/repos/acme/widget?page=2")


@pytest.mark.parametrize(
    "change",
    [{}, {"method": "HEAD"}, {"path": "/user"}, {"path": "/repos/acme/"}, {"names": (b"Accept", b"Host")},
     {"path": "/user?method=DELETE&path=/../x"}],
)  # fmt: skip
def test_allows_methods_and_paths_that_a_rule_names(change: dict[str, Any]) -> None:
    assert request_verdict(API, replace(ASKED, **change)) == Decision(allow=True, rule="https://a.com:443")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "POST"}, "method_not_allowed"),
        ({"method": "get"}, "method_not_allowed"),
        ({"method": "OPTIONS"}, "method_not_allowed"),
        ({"method": "VERSION-CONTROL"}, "method_not_allowed"),
        ({"path": "/"}, "path_not_allowed"),
        ({"path": "/user/"}, "path_not_allowed"),
        ({"path": "/users"}, "path_not_allowed"),
        ({"path": "/repos/acme"}, "path_not_allowed"),
        ({"path": "/repos/acme-evil/x"}, "path_not_allowed"),
        ({"path": "/x?/repos/acme/"}, "path_not_allowed"),
        ({"path": "/repos/%61cme/x"}, "path_not_allowed"),
        ({"path": "/repos/acme/../evil"}, "path_ambiguous"),
        ({"path": "/repos/acme/..%2fevil"}, "path_ambiguous"),
        ({"path": "/repos/acme/x#y"}, "path_ambiguous"),
        ({"path": "/repos/acme/\u00fc"}, "path_ambiguous"),
        ({"path": "/repos/acme/\udcff"}, "path_ambiguous"),
        ({"names": (b"X-Original-URL",)}, "path_ambiguous"),
        ({"names": (b"X-HTTP-Method-Override",)}, "method_override"),
        ({"path": "/user?_method=DELETE"}, "method_override"),
        ({"method": "TRACE"}, "method_refused"),
        ({"path": "*"}, "target_form_refused"),
    ],
)
def test_refuses_methods_and_paths_that_a_rule_does_not_name(change: dict[str, Any], reason: str) -> None:
    decision = request_verdict(API, replace(ASKED, **change))
    assert (decision.allow, decision.reason) == (False, reason)
    assert decision.rule == ("" if reason in {"method_refused", "target_form_refused"} else "https://a.com:443")


@pytest.mark.parametrize(("wishes", "reason"), [({"methods": METHODS}, ""), ({"paths": ["/*"]}, ""), ({}, "allowed")])
def test_refuses_what_is_unclear_wherever_methods_or_paths_are_limited(wishes: dict[str, Any], reason: str) -> None:
    unclear = (
        ({"path": "/a/../b"}, "path_ambiguous"),
        ({"path": "/@scope%2fname"}, "path_ambiguous"),
        ({"names": (b"X-Rewrite-URL",)}, "path_ambiguous"),
        ({"names": (b"X_HTTP_Method",)}, "method_override"),
        ({"path": "/?_method=PUT"}, "method_override"),
    )
    for change, expected in unclear:
        decision = request_verdict(limited(**wishes), replace(GOOD, **change))
        assert (decision.allow, decision.reason) == ((True, "") if reason else (False, expected))


def test_limits_one_port_of_a_host_and_not_the_other() -> None:
    plain = replace(PLAIN, method="DELETE", path="/a/../b")
    assert request_verdict(API, plain).allow
    assert request_verdict(API, replace(ASKED, method="DELETE")).reason == "method_not_allowed"


def test_an_exact_rule_stands_in_the_place_of_a_wildcard_of_the_same_port() -> None:
    wild = {"host": "*.w.com", "port": 443, "methods": ["GET"]}
    policy = compile_policy(
        bottle="p/a", launch="l", allow=[wild, {"host": "x.w.com", "port": 443, "methods": ["PUT"]}]
    )
    asked = replace(GOOD, host="x.w.com", sni="x.w.com", hosts=("x.w.com",), connect=("x.w.com", 443))
    assert request_verdict(policy, asked) == Decision(False, "https://x.w.com:443", "method_not_allowed")
    assert request_verdict(policy, replace(asked, method="PUT")).allow
    other = replace(GOOD, host="y.w.com", sni="y.w.com", hosts=("y.w.com",), connect=("y.w.com", 443))
    assert request_verdict(policy, other) == Decision(True, "https://*.w.com:443", "")


def test_opens_no_new_way_for_a_rule_whose_tls_stays_closed() -> None:
    policy = limited(bypass_tls=True)
    assert policy.rules[1].bypass_tls
    for connect, sni in ((("a.com", 443), "a.com"), (("a.com", 443), "b.com"), (("a.com", 443), None), (None, "a.com")):
        assert tls_verdict(policy, connect, sni) == tls_verdict(limited(), connect, sni)
    for host, port in (("a.com", 443), ("a.com", 22), ("b.com", 443)):
        for tls in (True, False):
            assert connect_verdict(policy, host, port, tls_to_proxy=tls) == connect_verdict(
                limited(), host, port, tls_to_proxy=tls
            )
    assert request_verdict(policy, GOOD) == request_verdict(limited(), GOOD)


@given(
    method=st.sampled_from([*METHODS, "get", "TRACE"]),
    target=st.sampled_from(["/user", "/user?_method=x", "/repos/acme/x", "/a/../user", "x", "/\x00", "/other"]),
)
def test_answers_about_a_request_as_it_would_decide(method: str, target: str) -> None:
    rule = API.rules[1]
    decision = request_verdict(API, replace(GOOD, method=method, path=target))
    asked = asked_verdict(rule, method, target)
    assert (asked.allow, asked.reason) == (decision.allow, decision.reason)
    assert asked.rule == rule.name


def test_answers_nothing_about_requests_of_raw_tcp() -> None:
    assert asked_verdict(Rule("g.com", 22, "ssh-tcp"), "GET", "/").reason == "protocol_not_allowed"
