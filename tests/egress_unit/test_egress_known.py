"""What is found of a known secret, where it may go, and how long ordinary data takes."""

from __future__ import annotations

import base64
import json
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.inflate import ScanLimitError
from bottle_fsm.egress.known import KnownSecret, KnownSecrets
from bottle_fsm.egress.views import MAX_SCANNED
from secret_encodings import NESTING, PACKED, PACKED_BASE64

TOKEN = KnownSecret("TOKEN", b"ghp_16C7e42F292c6912E7710c838347Ae178B4a", ("api.github.com", "*.ghe.test"))
SHORT = KnownSecret("SHORT", b"Tr0ub4dor&3x", ())
SIGNS = KnownSecret("SIGNS", b'p@$$ w0rd!#%^&*()\\ "z', ())
PHRASE = KnownSecret("PHRASE", b"correct horse battery staple", ())
KEY = KnownSecret(
    "KEY",
    b"-----BEGIN KEY-----\n"
    + base64.encodebytes(bytes(code * 7 % 256 for code in range(200)))
    + b"-----END KEY-----\n",
    (),
)
LOCAL = KnownSecret("LOCAL", "pässwörd-日本語-😀geheim".encode(), ())
SPACED = KnownSecret("SPACED", b"a b c d e f g h", ())
ASCII = (TOKEN, SHORT, SIGNS, PHRASE, KEY)
KNOWN = KnownSecrets((*ASCII, LOCAL, SPACED, KnownSecret("TINY", b"0123456789a", ())))
CONTEXTS = (b"", b"key: ", b'{"k":"', b"user:", b"line\nline2 ", "\u4e2d\u6587".encode())

secrets = st.sampled_from(ASCII)
around = st.sampled_from(CONTEXTS)


@pytest.mark.parametrize("secret", ASCII, ids=lambda secret: secret.name)
@pytest.mark.parametrize("name", [*NESTING, *PACKED, *PACKED_BASE64])
def test_finds_a_secret_in_every_encoding(secret: KnownSecret, name: str) -> None:
    assert KNOWN.found({**NESTING, **PACKED, **PACKED_BASE64}[name](secret.value)) == {secret.name}


@given(secrets, st.lists(st.tuples(st.sampled_from(sorted({*NESTING} - {"quoted-printable"})), around), max_size=3))
def test_finds_a_secret_in_encodings_nested_three_deep(secret: KnownSecret, layers: list[tuple[str, bytes]]) -> None:
    data = secret.value
    for name, before in layers:
        data = NESTING[name](before.replace("\u4e2d\u6587".encode(), b"") + data)
    assert KNOWN.found(b"x: " + data + b"\n") == {secret.name}


@given(secrets, around, st.integers(0, 5), st.sampled_from(sorted({"base64", "base32", "base64 in lines"})))
def test_finds_a_secret_at_every_offset(secret: KnownSecret, before: bytes, shift: int, name: str) -> None:
    assert KNOWN.found(before + NESTING[name](bytes(shift) + secret.value + b"!")) == {secret.name}


@given(secrets, st.sampled_from(sorted(PACKED_BASE64)), st.sampled_from(["JSON", "hex", "base64", "quoted"]))
def test_finds_a_secret_compressed_between_two_encodings(secret: KnownSecret, packed: str, outer: str) -> None:
    assert KNOWN.found(NESTING[outer](PACKED_BASE64[packed](NESTING["HTML"](secret.value)))) == {secret.name}


@pytest.mark.parametrize(
    "data",
    [
        b"key: >\n  ghp_16C7e42F292c6912\n  E7710c838347Ae178B4a\n",
        b'key: "ghp_16C7e42F292c6912\\\n   E7710c838347Ae178B4a"\n',
        b'["ghp_16C7e42F29", "2c6912E7710c838347Ae178B4a"]',
        b"'ghp_16C7e42F292c' + 'E'.lower() + '6912E7710c838347Ae178B4a'".replace(b" + 'E'.lower()", b""),
        b"/upload/ghp_16C7e42F292c6912E7710c838347Ae178B4a/x",
        b"Z2hwXzE2Q, zdlNDJGMjkyYzY5MTJFNzcxMGM4MzgzNDdBZTE3OEI0YQ",
        ",".join(str(code) for code in TOKEN.value).encode(),
        str(list(TOKEN.value)).encode(),
        base64.b32encode(b"abc" + TOKEN.value).lower(),
        b"Authorization: Basic " + base64.b64encode(b"user:" + TOKEN.value),
        b"a=1&b=%2567hp_16C7e42F292c6912E7710c838347Ae178B4%61&c=2",
        b"a=1&b=%252567hp_16C7e42F292c6912E7710c838347Ae178B4%2561&c=2",
        b'--b\r\nContent-Disposition: form-data; name="f"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + base64.b64encode(b"x" + TOKEN.value)
        + b"\r\n--b--\r\n",
        b"ghp_16C7e42F292c6912E771=\n0c838347Ae178B4a",
        b"\xff\xfe" + TOKEN.value.decode().encode("utf-32-le"),
    ],
)
def test_finds_a_secret_folded_parted_or_embedded(data: bytes) -> None:
    assert KNOWN.found(data) == {"TOKEN"}


@pytest.mark.parametrize("name", [*sorted({*NESTING} & {"base64", "hex", "quoted", "every byte in percent", "base32"})])
def test_finds_a_secret_of_other_scripts_in_any_character_set(name: str) -> None:
    text = LOCAL.value.decode()
    for data in (LOCAL.value, text.encode("utf-16-le"), text.encode("utf-16-be")):
        assert KNOWN.found(NESTING[name](data)) == {"LOCAL"}
    assert KNOWN.found(json.dumps({"k": text}).encode()) == {"LOCAL"}
    assert KNOWN.found(json.dumps({"k": text}, ensure_ascii=False).encode()) == {"LOCAL"}


def test_finds_a_secret_that_is_no_text() -> None:
    value = bytes(range(128, 160))
    known = KnownSecrets([KnownSecret("BINARY", value, ())])
    assert [known.found(encode(value)) for encode in (bytes, base64.b64encode, NESTING["quoted"], NESTING["hex"])] == [
        {"BINARY"}
    ] * 4


def test_finds_a_secret_of_escapes_in_what_decodes_them() -> None:
    known = KnownSecrets([KnownSecret("ESCAPES", b"a%41b%42c%43d%44e%45f%46", ())])
    value = b"a%41b%42c%43d%44e%45f%46"
    for data in (value, NESTING["quoted"](value), NESTING["base64"](NESTING["JSON"](value)), b"aAbBcCdDeEfF"):
        assert known.found(data) == {"ESCAPES"}


def test_finds_a_secret_that_is_little_more_than_spaces() -> None:
    assert KNOWN.found(b"x a b c d e f g h x") == {"SPACED"}
    assert KNOWN.found(b"abcdefgh") == frozenset()


def test_finds_all_secrets_and_no_value_that_is_too_short() -> None:
    assert KNOWN.found(b"0123456789a " + SHORT.value + TOKEN.value) == {"SHORT", "TOKEN"}
    assert KnownSecrets([KnownSecret("TINY", b" 0123456789a ", ())]).found(b" 0123456789a ") == frozenset()


def test_finds_every_name_of_a_value_and_a_value_inside_another() -> None:
    known = KnownSecrets(
        [*(KnownSecret(name, SHORT.value, ()) for name in "AB"), KnownSecret("C", b"x" + SHORT.value, ())]
    )
    assert known.found(SHORT.value) == {"A", "B"}
    assert known.found(b"x" + SHORT.value) == {"A", "B", "C"}


@given(st.binary(max_size=3000) | st.text(max_size=1000).map(str.encode))
def test_finds_nothing_in_data_without_a_secret(data: bytes) -> None:
    assert KNOWN.found(data) == frozenset()


@pytest.mark.parametrize("name", ["base64", "hex", "base32", "JSON", "quoted", "UTF-16 LE"])
def test_finds_nothing_in_digests_and_images(name: str) -> None:
    dice = random.Random(name)
    lines = [f"{uuid.UUID(int=dice.getrandbits(128))} sha256:{dice.randbytes(32).hex()}" for _ in range(2000)]
    lines += [base64.b64encode(dice.randbytes(64)).decode() for _ in range(2000)]
    assert KNOWN.found(NESTING[name](dice.randbytes(200_000))) == frozenset()
    assert KNOWN.found(NESTING[name]("\n".join(lines).encode())) == frozenset()


def test_does_not_find_half_a_secret() -> None:
    assert KNOWN.found(TOKEN.value[:-1]) == frozenset()
    assert KNOWN.found(base64.b64encode(TOKEN.value[1:])) == frozenset()


def test_says_when_data_cannot_be_looked_at() -> None:
    with pytest.raises(ScanLimitError, match="scan_limit_size"):
        KNOWN.found(bytes(MAX_SCANNED + 1))
    assert KnownSecrets(()).found(bytes(MAX_SCANNED + 1)) == frozenset()


def test_never_shows_a_value() -> None:
    shown = repr((TOKEN, KNOWN, KNOWN.literal, KNOWN.refused_at("a.test")))
    assert "KnownSecret(name='TOKEN', to=" in shown
    assert "16C7e42F" not in shown


def test_refuses_two_secrets_of_one_name() -> None:
    with pytest.raises(ValueError, match="same name"):
        KnownSecrets([TOKEN, KnownSecret("TOKEN", b"another value", ())])
