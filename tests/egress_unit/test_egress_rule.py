"""Rules as data: what is read, what is refused, and that nothing weaker is ever read."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.policy import EgressPolicy, compile_policy
from bottle_fsm.egress.rule import METHODS, Rule, default_credentials, long_form, rule_of_entry, ssh_rule

ENTRY = {"host": "a.com", "port": 443}
RULES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "host": st.sampled_from(["a.com", "*.B.com", "x.a.com."]),
        "port": st.sampled_from([80, 443, 8443]),
        "methods": st.lists(st.sampled_from(METHODS), max_size=4),
        "paths": st.lists(st.sampled_from(["/", "/*", "/repos/acme/*", "/a/*/b"]), max_size=3),
        "scan": st.sampled_from(["block", "warn", "off"]),
        "credentials": st.sampled_from(["injected", "none", "agent"]),
        "websocket": st.booleans(),
    }
)


def test_takes_what_is_left_out_as_it_is_by_default() -> None:
    assert rule_of_entry(ENTRY) == Rule(
        host="a.com",
        port=443,
        kind="https",
        methods=(),
        paths=(),
        scan="block",
        credentials="none",
        websocket=False,
        bypass_tls=False,
        inject=(),
    )


@pytest.mark.parametrize("entry", [("a.com", 443), ["a.com", 443], {"host": "a.com", "port": 443}])
def test_reads_host_and_port_alone_as_older_launches_recorded_them(entry: object) -> None:
    assert long_form(entry) == ENTRY
    assert rule_of_entry(entry) == Rule("a.com", 443, "https")


@pytest.mark.parametrize("entry", [None, "ab", 3, [], ["a.com"], ["a.com", 443, "GET"], {}, {"host": "a.com"}])
def test_reads_nothing_else_as_a_destination(entry: object) -> None:
    with pytest.raises(ValueError, match="destination"):
        rule_of_entry(entry)


def test_sends_injected_credentials_by_default_where_something_is_injected() -> None:
    assert default_credentials([]) == "none"
    injecting = {**ENTRY, "inject": ["header Authorization"]}
    assert rule_of_entry(injecting).credentials == "injected"
    assert rule_of_entry({**injecting, "credentials": "agent"}).credentials == "agent"


def test_keeps_methods_and_paths_in_one_order() -> None:
    rule = rule_of_entry({**ENTRY, "methods": ["PUT", "GET", "PUT"], "paths": ["/b", "/a", "/b"]})
    assert (rule.methods, rule.paths) == (("GET", "PUT"), ("/a", "/b"))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"port": 443, "host": 1}, "has a host"),
        ({"methods": ["get"]}, "'get' is no method"),
        ({"methods": ["TRACE"]}, "'TRACE' is no method"),
        ({"methods": "GET"}, "methods is a list of texts"),
        ({"methods": [1]}, "methods is a list of texts"),
        ({"methods": None}, "methods is a list of texts"),
        ({"paths": "/x"}, "paths is a list of texts"),
        ({"paths": ["x"]}, "does not begin with a slash"),
        ({"paths": ["/a/../*"]}, "could lead elsewhere"),
        ({"paths": ["/a%2f*"]}, "holds `%`"),
        ({"scan": "on"}, "scan is one of block, warn, off"),
        ({"credentials": None}, "credentials is one of"),
        ({"websocket": 1}, "websocket is true or false"),
        ({"bypass_tls": "no"}, "bypass_tls is true or false"),
        ({"inject": ["Authorization: Bearer x"]}, "inject names what is injected"),
        ({"inject": ["header Authorization x"]}, "inject names what is injected"),
        ({"inject": ["header A\n"]}, "inject names what is injected"),
        ({"inject": "header A"}, "inject is a list of texts"),
        ({"port": 80, "inject": ["header A"]}, "nothing is injected"),
        ({"port": 80, "bypass_tls": True}, "no TLS to leave closed"),
        ({"bypass_tls": True, "methods": ["GET"]}, "nothing inside can be checked"),
        ({"bypass_tls": True, "paths": ["/x"]}, "nothing inside can be checked"),
        ({"bypass_tls": True, "inject": ["header A"]}, "nothing inside can be checked"),
        ({"bypass_tls": True, "websocket": True}, "nothing inside can be checked"),
        ({"kind": "http"}, "only what a rule has"),
        ({"method": ["GET"]}, "only what a rule has"),
    ],
)
def test_refuses_rules_that_make_no_sense(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rule_of_entry({**ENTRY, **entry})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "ftp"}, "one of the kinds https, http, ssh-tcp"),
        ({"kind": "http"}, "plain HTTP is spoken on port 80"),
        ({"port": 80}, "plain HTTP is spoken on port 80"),
        ({"port": True}, "a port is a number"),
        ({"extra": 1}, "exactly"),
    ],
)
def test_reads_only_exact_rules(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rule.from_json({**Rule("a.com", 443, "https").to_json(), **change})
    with pytest.raises(ValueError, match="exactly"):
        Rule.from_json([])


def test_knows_no_wish_of_an_ssh_destination() -> None:
    rule = ssh_rule("Git.com", 22)
    assert rule == Rule("git.com", 22, "ssh-tcp")
    with pytest.raises(ValueError, match="and no more"):
        Rule.from_json({**rule.to_json(), "methods": ["GET"]})


@given(RULES)
def test_goes_through_json_unchanged(entry: dict[str, Any]) -> None:
    rule = rule_of_entry(entry)
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule
    assert set(rule.to_json()) == {field.name for field in fields(Rule)}


@given(RULES, st.sampled_from([field.name for field in fields(Rule)]))
def test_reads_no_rule_that_lacks_a_field(entry: dict[str, Any], lost: str) -> None:
    value = rule_of_entry(entry).to_json()
    del value[lost]
    with pytest.raises(ValueError, match="exactly"):
        Rule.from_json(value)


@given(RULES, st.data())
def test_reads_no_part_of_a_policy_with_long_rules(entry: dict[str, Any], data: st.DataObject) -> None:
    text = compile_policy(bottle="p/a", launch="l", allow=[entry]).to_json()
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match=r".+"):
        EgressPolicy.from_json(text[:end])


@pytest.mark.parametrize(
    ("entry", "example"),
    [
        (ENTRY, ("a.com", "GET", "/")),
        ({"host": "*.a.com", "port": 80}, ("bottle-selftest.a.com", "GET", "/")),
        (
            {**ENTRY, "methods": ["POST", "HEAD"], "paths": ["/repos/acme/*", "/x"]},
            ("a.com", "HEAD", "/repos/acme/bottle-selftest"),
        ),
    ],
)
def test_gives_an_example_of_what_it_allows(entry: dict[str, Any], example: tuple[str, str, str]) -> None:
    assert rule_of_entry(entry).example() == example
