"""Host names and the policy made of them."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.hosts import normalise_host, parse_port, split_authority
from bottle_fsm.egress.policy import VERSION, EgressPolicy, Rule, compile_policy
from bottle_fsm.places import DENIED_PROBE_HOST, GATE_HOST

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


def policy(*allow: tuple[str, int] | dict[str, object], **more: object) -> EgressPolicy:
    ssh = more.get("ssh", ())
    hosts = more.get("hosts", {})
    assert isinstance(ssh, tuple)
    assert isinstance(hosts, dict)
    return compile_policy(bottle="p/a", launch="l", allow=allow, ssh=ssh, hosts=hosts)


def written(value: object) -> str:
    """Write JSON as policies are written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a_b.example", "a_b.example"),
        ("localhost", "localhost"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0x1f.example", "0x1f.example"),
    ],
)
def test_normalises_host_names(text: str, name: str) -> None:
    assert normalise_host(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a.com..",
        "-a.com",
        "a-.com",
        "a b.com",
        "a\0.com",
        "a%00.com",
        "a/b",
        "a\\b",
        "u@a.com",
        "a.com:443",
        "a?b",
        "a#b",
        "[::1]",
        "::1",
        "127.0.0.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0x7f.1",
        "1.2.3.0x4",
        "0x",
        "a.5",
        "*.a.com",
        "a" * 64 + ".com",
        ".".join(["a" * 60] * 5),
        "a\n.com",
        "a\t.com",
        "\uff11\uff12\uff17.0.0.1",
        "\uff25xample.com",
        "stra\u00dfe.example",
        "\ud800.com",
        "a.com\r",
    ],
)
def test_refuses_what_is_no_host_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"host name"):
        normalise_host(text)


@given(NAME)
def test_normalising_twice_changes_nothing(name: str) -> None:
    assert normalise_host(normalise_host(name.upper() + ".")) == normalise_host(name)


@given(st.text(max_size=30))
def test_normalises_to_plain_names_or_refuses(text: str) -> None:
    try:
        name = normalise_host(text)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert not set(name) & set("/:@%?#[]\\ \0\r\n*")
    assert normalise_host(name) == name


@pytest.mark.parametrize("digits", ["", "0", "65536", "-1", "+1", " 1", "1 ", "1e2", "٣", "000443", "99999999999"])
def test_refuses_odd_ports(digits: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_port(digits)


def test_splits_an_authority() -> None:
    assert split_authority("A.com", 443) == ("a.com", 443)
    assert split_authority("a.com:8443", 443) == ("a.com", 8443)
    with pytest.raises(ValueError, match="port"):
        split_authority("a.com:", 443)
    with pytest.raises(ValueError, match="port"):
        split_authority("a.com:1:2", 443)


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("a.com", 443, "https://a.com:443"),
        ("A.COM.", 443, "https://a.com:443"),
        ("a.com", 80, "http://a.com:80"),
        ("x.b.com", 443, "https://*.b.com:443"),
        ("x.y.b.com", 443, "https://*.b.com:443"),
        ("z.b.com", 443, "https://z.b.com:443"),
        ("git.com", 22, "ssh-tcp://git.com:22"),
        ("q.c.b.com", 443, "https://*.c.b.com:443"),
    ],
)
def test_matches_the_nearest_rule(host: str, port: int, rule: str) -> None:
    rules = policy(
        ("a.com", 443), ("a.com", 80), ("*.b.com", 443), ("*.c.b.com", 443), ("z.b.com", 443), ssh=(("git.com", 22),)
    )
    found = rules.match(host, port)
    assert found is not None
    assert found.name == rule


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("b.com", 443),
        ("xb.com", 443),
        ("a.com", 444),
        ("a.com.evil.com", 443),
        ("evil-a.com", 443),
        ("a.com", 22),
        ("", 443),
        ("a.com:443", 443),
        ("127.0.0.1", 443),
        ("git.com", 443),
        (".b.com", 443),
        ("x.b.com", 80),
        (GATE_HOST, 443),
        (DENIED_PROBE_HOST, 443),
        ("bottle-fsm.internal", 443),
    ],
)
def test_matches_nothing_else(host: str, port: int) -> None:
    rules = policy(("a.com", 443), ("*.b.com", 443), ("*.internal", 443), ssh=(("git.com", 22),))
    assert rules.match(host, port) is None


@given(NAME, NAME)
def test_a_wildcard_covers_exactly_the_names_below_it(below: str, suffix: str) -> None:
    rule = Rule(host=f"*.{suffix}", port=443, kind="https")
    assert rule.covers(f"{below}.{suffix}", 443)
    assert not rule.covers(suffix, 443)
    assert not rule.covers(f"{below}{suffix}", 443)


@given(st.lists(st.tuples(NAME, st.sampled_from([80, 443, 8443])), min_size=1, max_size=5), st.randoms())
def test_equal_reach_gives_equal_bytes(allow: list[tuple[str, int]], random: object) -> None:
    first = policy(*allow)
    shuffled = [*allow, allow[0]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    second = policy(*((host.upper(), port) for host, port in shuffled))
    assert first.to_json() == second.to_json()
    assert first.digest() == second.digest()
    assert EgressPolicy.from_json(first.to_json()) == first


def test_digest_changes_with_every_part() -> None:
    base = policy(("a.com", 443))
    assert f'"version":{VERSION}' in base.to_json()
    others = [
        policy(("b.com", 443)),
        policy(("a.com", 80)),
        policy(("a.com", 443), hosts={"a.com": "10.0.0.1"}),
        compile_policy(bottle="p/b", launch="l", allow=[("a.com", 443)]),
        compile_policy(bottle="p/a", launch="m", allow=[("a.com", 443)]),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 6


def test_knows_static_addresses() -> None:
    found = policy(("a.com", 443), hosts={"A.com": "10.0.0.1", "b.com": "2001:DB8::1"})
    assert (found.address_of("a.com"), found.address_of("b.com"), found.address_of("c.com")) == (
        "10.0.0.1",
        "2001:db8::1",
        None,
    )


@pytest.mark.parametrize(
    ("allow", "ssh", "hosts", "words"),
    [
        ([("a.com", 0)], [], {}, "port"),
        ([("a.com", 70000)], [], {}, "port"),
        ([("a.com", True)], [], {}, "port"),
        ([("10.0.0.1", 443)], [], {}, "literal"),
        ([("*", 443)], [], {}, "host name"),
        ([("*.*.com", 443)], [], {}, "host name"),
        ([(GATE_HOST, 443)], [], {}, "sidecars"),
        ([("*.bottle-fsm.internal", 443)], [], {}, "sidecars"),
        ([("a.com", 22)], [("a.com", 22)], {}, "both as https and as ssh-tcp"),
        (
            [("a.com", 443), {"host": "A.com.", "port": 443, "methods": ["GET"]}],
            [],
            {},
            r"a\.com:443 is declared twice$",
        ),
        ([], [("*.a.com", 22)], {}, "one exact host"),
        ([("a.com", 443)], [], {"a.com": "not an address"}, "address"),
        ([("a.com", 443)], [], {"a.com": 7}, "address"),
        ([("a.com", 443)], [], {"10.0.0.1": "10.0.0.1"}, "literal"),
    ],
)
def test_refuses_a_reach_that_makes_no_sense(
    allow: list[object], ssh: list[tuple[str, int]], hosts: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        compile_policy(bottle="p/a", launch="l", allow=allow, ssh=ssh, hosts=hosts)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 2.0},
        {"extra": 1},
        {"rules": None},
        {"rules": {}},
        {"hosts": []},
        {"bottle": ""},
        {"launch": 7},
        {"gate_host": "10.0.0.1"},
        {"rules": [1]},
        {"rules": [{"host": "a.com", "port": 443}]},
        {"rules": [{"host": "a.com", "port": 443, "kind": "https"}]},
        {"hosts": {"a.com": None}},
    ],
)
def test_reads_only_exact_policies(change: dict[str, object]) -> None:
    value = json.loads(policy(("a.com", 443)).to_json())
    with pytest.raises(ValueError, match=r".+"):
        EgressPolicy.from_json(written(value | change))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"methods":["GET"]', '"methods":["GET"],"methods":[]'),
        ('"methods":["GET"]', '"methods":["GET","GET"]'),
        ('"methods":["GET"]', '"methods": ["GET"]'),
        ('"host":"a.com"', '"host":"A.com"'),
        ("}", "}\n"),
        ('["/a/*","/b"]', '["/b","/a/*"]'),
    ],
)
def test_reads_a_policy_in_its_canonical_form_only(old: str, new: str) -> None:
    text = policy({"host": "a.com", "port": 443, "methods": ["GET"], "paths": ["/b", "/a/*"]}).to_json()
    assert EgressPolicy.from_json(text).to_json() == text
    assert old in text
    with pytest.raises(ValueError, match="canonical form"):
        EgressPolicy.from_json(text.replace(old, new))


def test_every_part_of_a_rule_is_in_the_digest() -> None:
    plain = Rule("a.com", 443, "https")
    odd = {
        "host": "b.com", "port": 444, "kind": "ssh-tcp", "methods": ("GET",), "paths": ("/x",), "scan": "off",
        "credentials": "agent", "websocket": True, "bypass_tls": True, "inject": ("header X-Key",),
    }  # fmt: skip
    assert set(odd) == {field.name for field in fields(Rule)}
    rules = [plain, *(replace(plain, **{name: value}) for name, value in odd.items())]  # type: ignore[arg-type]
    assert len({EgressPolicy("p/a", "l", (rule,)).digest() for rule in rules}) == len(odd) + 1


@given(st.permutations(["x.w.com", "*.w.com", "*.x.w.com", "*.com"]))
def test_matches_exact_before_wildcard_and_the_longest_wildcard_first(order: list[str]) -> None:
    rules = EgressPolicy("p/a", "l", tuple(Rule(host, 443, "https") for host in order))
    asked = ("x.w.com", "y.x.w.com", "y.w.com", "y.com")
    found = [rule.host if (rule := rules.match(host, 443)) else "" for host in asked]
    assert found == ["x.w.com", "*.x.w.com", "*.w.com", "*.com"]


def test_reads_no_part_of_a_policy() -> None:
    text = policy(("a.com", 443), {"host": "b.com", "port": 443, "methods": ["GET"], "paths": ["/a"]}).to_json()
    for end in range(len(text)):
        with pytest.raises(ValueError, match=r".+"):
            EgressPolicy.from_json(text[:end])


def test_allows_nothing_when_no_rule_is_given() -> None:
    policy = compile_policy(bottle="demo/one", launch="L", allow=[])
    assert EgressPolicy.from_json(policy.to_json()) == policy
    assert policy.match("example.org", 443) is None
