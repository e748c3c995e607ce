"""One spelling of a host's name, for the manifest that allows it and for the sidecars that compare it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress import hosts as sidecar
from bottle_fsm.hostname import MAX_HOST, Fault, HostNameError, normalise_host
from bottle_fsm.manifest import hosts as manifest
from bottle_fsm.manifest.refusal import Refusal

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
SIGNS = "aB1-_.\u00fc\u00df\u212a\uff25\u3002\u200b\u0130%:/*@ "
ODD = st.text(st.sampled_from(SIGNS), max_size=12) | st.text(max_size=30)


def spelled(text: str) -> str | None:
    try:
        return normalise_host(text)
    except HostNameError:
        return None


@given(NAME)
def test_takes_other_spellings_of_a_name_for_the_same(name: str) -> None:
    assert {normalise_host(text) for text in (name, name.upper(), name.title(), f"{name}.")} == {name}


@given(ODD)
def test_has_one_plain_spelling_or_none(text: str) -> None:
    name = spelled(text)
    if name is None:
        return
    assert name.isascii()
    assert name == name.lower()
    assert 0 < len(name) <= MAX_HOST
    assert not set(name) & set("/:@%?#[]\\ \0\r\n*")
    assert normalise_host(name) == name


@given(ODD | NAME)
def test_spells_a_name_in_a_manifest_as_the_sidecars_compare_it(text: str) -> None:
    try:
        name = manifest.check_host(text)
    except Refusal:
        return
    assert sidecar.normalise_host(text) == name


@given(NAME)
def test_lets_every_common_name_into_a_manifest(name: str) -> None:
    assert manifest.check_host(name.upper()) == normalise_host(name)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "form"),
        (".", "form"),
        ("a..b", "form"),
        ("a b", "form"),
        ("a" * 64, "form"),
        (".".join(["a" * 60] * 5), "form"),
        ("\u00fc" * 300, "form"),
        ("127.1", "address"),
        ("a.0x1F", "address"),
        ("stra\u00dfe.de", "spelling"),
        ("\uff25xample.com", "spelling"),
        ("a\u3002b", "spelling"),
        ("\u00fc..example", "spelling"),
        ("\ud800.com", "spelling"),
    ],
)
def test_says_what_is_wrong_with_a_name(text: str, fault: Fault) -> None:
    with pytest.raises(HostNameError) as caught:
        normalise_host(text)
    assert caught.value.fault == fault
