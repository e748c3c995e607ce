"""Where a known secret may go, and secrets that are carried in the name of a host."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.known import KnownSecret, KnownSecrets

VALUE = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"
TOKEN = KnownSecret("TOKEN", VALUE, ("api.github.com", "*.ghe.test"))
CANARY = KnownSecret("CANARY", b"canary-7d41f0c2b6", ())
KNOWN = KnownSecrets((TOKEN, CANARY, KnownSecret("SHORT", b"shortvalue", ())))
BOTH = ("TOKEN", "CANARY")


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("api.github.com", {"CANARY"}),
        ("API.GitHub.com.", {"CANARY"}),
        ("a.ghe.test", {"CANARY"}),
        ("a.b.ghe.test", {"CANARY"}),
        ("ghe.test", {"TOKEN", "CANARY"}),
        ("aghe.test", {"TOKEN", "CANARY"}),
        ("github.com", {"TOKEN", "CANARY"}),
        ("x.api.github.com", {"TOKEN", "CANARY"}),
        ("api.github.com:443", {"TOKEN", "CANARY"}),
        ("*.ghe.test", {"TOKEN", "CANARY"}),
        ("", {"TOKEN", "CANARY"}),
    ],
)
def test_a_secret_goes_only_where_it_may(host: str, refused: set[str]) -> None:
    assert KNOWN.refused(BOTH, host) == refused


def test_an_unknown_name_may_go_nowhere_and_no_name_is_refused_nothing() -> None:
    assert KNOWN.refused(["OTHER", "TOKEN"], "api.github.com") == {"OTHER"}
    assert KNOWN.refused([], "github.com") == frozenset()


def test_only_secrets_that_may_not_go_to_a_host_are_looked_for_in_a_stream_to_it() -> None:
    elsewhere = KNOWN.refused_at("api.github.com")
    assert elsewhere.found(VALUE + CANARY.value) == {"CANARY"}
    assert KNOWN.refused_at("example.org").found(VALUE + CANARY.value) == {"TOKEN", "CANARY"}
    assert KNOWN.refused_at("a.ghe.test") is elsewhere


def in_labels(text: str, width: int) -> str:
    return ".".join(text[at : at + width] for at in range(0, len(text), width))


@given(st.integers(4, 63), st.integers(0, 4), st.sampled_from(["plain", "hex", "base32", "base64url"]), st.booleans())
def test_finds_a_secret_in_the_labels_of_a_host(width: int, shift: int, form: str, reverse: bool) -> None:
    value = b"\0" * shift + VALUE
    text = {
        "plain": VALUE.decode(),
        "hex": value.hex(),
        "base32": base64.b32encode(value).decode().rstrip("="),
        "base64url": base64.urlsafe_b64encode(value).decode().rstrip("="),
    }[form]
    labels = in_labels(text, width).split(".")
    name = ".".join(labels[::-1] if reverse else labels) + ".evil.test"
    assert KNOWN.found_in_host(name) == {"TOKEN"}
    assert KNOWN.found_in_host(name.lower()) == {"TOKEN"}


@pytest.mark.parametrize("host", ["api.github.com", "shortvalue.test", "", "..", "canary-7d41.test", "日本.test"])
def test_finds_nothing_in_the_names_of_other_hosts(host: str) -> None:
    assert KNOWN.found_in_host(host) == frozenset()


def test_hyphens_and_case_in_a_host_do_not_hide_a_secret() -> None:
    assert KNOWN.found_in_host("Can-ary-7D41.f0c2-B6.evil.test") == {"CANARY"}
