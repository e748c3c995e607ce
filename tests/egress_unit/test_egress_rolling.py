"""A stream gives out nothing that completes a known secret, wherever it is cut."""

from __future__ import annotations

import base64
import itertools
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.known import MAX_STREAMED, KnownSecret, KnownSecrets
from bottle_fsm.egress.needles import NeedleIndex
from bottle_fsm.egress.rolling import Release, RollingSearch

values = st.binary(min_size=12, max_size=80).filter(lambda value: len(value.strip()) >= 12)
encodings = st.sampled_from(
    [
        bytes,
        lambda value: quote(value, safe="").encode(),
        lambda value: quote_plus(value).encode(),
        lambda value: b"".join(b"%%%02x" % code for code in value),
        lambda value: value.hex().encode(),
        lambda value: value.hex().upper().encode(),
        lambda value: json.dumps(value.decode("latin-1")).encode() if value.isascii() else value,
        base64.b64encode,
        lambda value: base64.b64encode(b"1" + value + b"23"),
        lambda value: base64.urlsafe_b64encode(b"12" + value).rstrip(b"="),
        base64.b32encode,
    ]
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def stream(search: RollingSearch, chunks: list[bytes]) -> tuple[bytes, frozenset[str]]:
    released = b"".join(search.feed(chunk).data for chunk in chunks)
    last = search.finish()
    return released + last.data, last.found


@given(values, encodings, st.binary(max_size=300), st.binary(max_size=300), st.lists(st.integers(0, 2000), max_size=40))
def test_no_encoded_secret_is_ever_given_out_whole(
    value: bytes, encode: object, before: bytes, behind: bytes, cuts: list[int]
) -> None:
    assert callable(encode)
    encoded = encode(value)
    data = before + encoded + behind
    released, found = stream(RollingSearch(KnownSecrets([KnownSecret("S", value, ())])), pieces(data, cuts))
    assert found == {"S"}
    assert encoded.strip() not in released
    assert data.startswith(released)


@given(st.lists(values, max_size=3, unique=True), st.lists(st.binary(max_size=99), max_size=30), st.data())
def test_what_holds_no_secret_comes_out_as_it_went_in(
    secrets: list[bytes], chunks: list[bytes], data: st.DataObject
) -> None:
    known = KnownSecrets([KnownSecret(str(at), value, ()) for at, value in enumerate(secrets)])
    starts = [value.strip()[: data.draw(st.integers(0, 11))] for value in secrets]
    chunks = [chunk for pair in zip(chunks, [*starts, *[b""] * len(chunks)], strict=False) for chunk in pair]
    search = RollingSearch(known)
    if known.literal.names(b"".join(chunks)):
        return
    assert stream(search, chunks) == (b"".join(chunks), frozenset())


def test_holds_back_only_what_may_be_the_start_of_a_secret() -> None:
    search = RollingSearch(KnownSecrets([KnownSecret("S", b"hunter2-hunter2", ())]))
    assert search.feed(b"say hunter2") == Release(b"say ", frozenset())
    assert search.feed(b"-hunter3 h") == Release(b"hunter2-hunter3 ", frozenset())
    assert search.feed(b"unter2-hunter") == Release(b"", frozenset())
    assert search.feed(b"2, all that follows") == Release(b"", frozenset({"S"}))
    assert search.feed(b"more") == Release(b"", frozenset({"S"}))
    assert search.finish() == Release(b"", frozenset({"S"}))


def test_gives_out_the_rest_at_the_end_once() -> None:
    search = RollingSearch(KnownSecrets([KnownSecret("S", b"hunter2-hunter2", ())]))
    assert search.feed(b"hunter2-hunter") == Release(b"", frozenset())
    assert search.finish() == Release(b"hunter2-hunter", frozenset())
    assert search.finish() == Release(b"", frozenset())


def test_never_holds_back_more_than_the_bound() -> None:
    value = bytes(range(33, 127)) * 100
    search = RollingSearch(KnownSecrets([KnownSecret("S", value, ())]))
    assert search.feed(value[: MAX_STREAMED - 1]).data == b""
    assert search.feed(value[MAX_STREAMED - 1 : MAX_STREAMED]) == Release(b"", frozenset({"S"}))


def test_without_secrets_everything_passes() -> None:
    assert stream(RollingSearch(KnownSecrets(())), [b"a", b"b"]) == (b"ab", frozenset())


def test_a_release_shows_no_data() -> None:
    assert repr(Release(b"hunter2", frozenset({"S"}))) == "Release(found=frozenset({'S'}))"


@given(st.lists(st.binary(min_size=12, max_size=40), min_size=1, max_size=6, unique=True), st.binary(max_size=70))
def test_the_index_finds_a_needle_at_every_place(needles: list[bytes], around: bytes) -> None:
    index = NeedleIndex({needle: frozenset({needle.hex()}) for needle in needles})
    for at in range(len(around) + 1):
        data = around[:at] + needles[0] + around[at:]
        assert index.names(data) == {needle.hex() for needle in needles if needle in data}


@pytest.mark.parametrize("length", range(12, 33))
def test_the_index_is_not_misled_by_a_start_or_an_end_of_a_needle(length: int) -> None:
    needle = bytes(range(length))
    index = NeedleIndex({needle: frozenset({"N"})})
    assert index.names(needle[:-1] + b"\xff" + needle[1:]) == frozenset()
    assert [index.unfinished(b"\xff" * 50 + needle[:end]) for end in range(length)] == list(range(length))
    assert index.unfinished(needle[:4] + b"\xff" + needle[:4] + b"\xfe") == 0
