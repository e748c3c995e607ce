"""What a marker replaces, and that looking again tells what it could not replace."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.known import KnownSecret, KnownSecrets
from secret_encodings import BASE64, ESCAPED, HEX, NESTING

TOKEN = KnownSecret("TOKEN", b"ghp_16C7e42F292c6912E7710c838347Ae178B4a", ())
SHORT = KnownSecret("SHORT", b"Tr0ub4dor&3x", ())
SIGNS = KnownSecret("SIGNS", b'p@$$ w0rd!#%^&*()\\ "z', ())
PHRASE = KnownSecret("PHRASE", b"correct horse battery staple", ())
KEY = KnownSecret("KEY", b"-----BEGIN KEY-----\n" + base64.encodebytes(b"?>~key" * 60) + b"-----END KEY-----\n", ())
SECRETS = (TOKEN, SHORT, SIGNS, PHRASE, KEY)
KNOWN = KnownSecrets(SECRETS)
MARKER = b"[secret TOKEN removed by bottle-fsm]"
MASKED = {**BASE64, **HEX, **ESCAPED, "plain": bytes}


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
@pytest.mark.parametrize("name", MASKED)
def test_replaces_a_secret_whole(secret: KnownSecret, name: str) -> None:
    data = b"before " + MASKED[name](secret.value) + b" after"
    masked = KNOWN.mask(data, {secret.name})
    assert f"[secret {secret.name} removed by bottle-fsm]".encode() in masked
    assert masked.startswith(b"before ")
    assert masked.endswith(b" after")
    assert KNOWN.found(masked) == frozenset()


@given(
    st.binary(min_size=12, max_size=60).filter(lambda value: len(value.strip()) >= 12),
    st.binary(max_size=9),
    st.binary(max_size=9),
    st.sampled_from(["plain", "base64", "base64url", "base64 without padding", "hex", "HEX", "quoted", "JSON"]),
)
def test_nothing_of_any_secret_is_left(value: bytes, before: bytes, behind: bytes, name: str) -> None:
    known = KnownSecrets([KnownSecret("S", value, ())])
    data = b"x " + MASKED[name](before + value + behind) + b" y"
    assert known.found(data) == {"S"}
    masked = known.mask(data, {"S"})
    assert known.found(masked) == frozenset()
    assert value.strip() not in masked


@given(
    st.sampled_from(SECRETS), st.integers(0, 2), st.sampled_from(sorted(BASE64)), st.sampled_from(["JSON", "quoted"])
)
def test_replaces_base64_that_is_escaped(secret: KnownSecret, shift: int, inner: str, outer: str) -> None:
    data = ESCAPED[outer](BASE64[inner](bytes(shift) + secret.value))
    assert KNOWN.found(KNOWN.mask(data, {secret.name})) == frozenset()


def test_replaces_a_secret_of_signs_that_is_escaped_and_folded() -> None:
    data = b"p&#x40;$$\n\t w0rd!#%^&amp;*()\\ &quot;z"
    assert KNOWN.mask(data, {"SIGNS"}) == b"[secret SIGNS removed by bottle-fsm]"


def test_what_is_around_a_secret_stays_as_it_was() -> None:
    prompt = {"messages": [{"content": f"env says TOKEN={TOKEN.value.decode()}\nand \\u0041 more"}], "n": 1}
    masked = KNOWN.mask(json.dumps(prompt).encode(), {"TOKEN"})
    prompt["messages"] = [{"content": f"env says TOKEN={MARKER.decode()}\nand \\u0041 more"}]
    assert json.loads(masked) == prompt


def test_replaces_every_occurrence_of_the_named_secrets_only() -> None:
    folded = TOKEN.value[:9] + b"\\n  " + TOKEN.value[9:]
    data = b" ".join([TOKEN.value, folded, SHORT.value, folded, TOKEN.value])
    masked = KNOWN.mask(data, {"TOKEN", "OTHER"})
    assert masked == b" ".join([MARKER, MARKER, SHORT.value, MARKER, MARKER])
    assert KNOWN.mask(data, ()) == data


def test_replaces_a_secret_that_holds_another_before_that_other() -> None:
    inner = KnownSecret("INNER", b"an inner secret", ())
    known = KnownSecrets([inner, KnownSecret("OUTER", b"postgres://u:an inner secret@db", ())])
    data = b"DSN=postgres://u:an inner secret@db"
    assert known.mask(data, {"INNER", "OUTER"}) == b"DSN=[secret OUTER removed by bottle-fsm]"


def test_a_marker_holds_only_plain_characters_of_a_name() -> None:
    known = KnownSecrets([KnownSecret('a"b\\c\nd', TOKEN.value, ())])
    assert known.mask(TOKEN.value, {'a"b\\c\nd'}) == b"[secret a_b_c_d removed by bottle-fsm]"


@pytest.mark.parametrize(
    "data",
    [
        base64.b64encode(base64.b64encode(TOKEN.value)),
        base64.b64encode(gzip.compress(TOKEN.value, mtime=0)),
        NESTING["0x"](TOKEN.value),
        (b"." * 65).join((TOKEN.value[:9], TOKEN.value[9:])),
    ],
)
def test_looking_again_tells_what_was_not_replaced(data: bytes) -> None:
    assert KNOWN.found(KNOWN.mask(data, {"TOKEN"})) == {"TOKEN"}


def test_a_start_of_a_secret_is_no_secret() -> None:
    data = TOKEN.value[:20] + b"-" + TOKEN.value[:39] + b"%u2014"
    assert KNOWN.mask(data + b"\\x", {"TOKEN"}) == data + b"\\x"
