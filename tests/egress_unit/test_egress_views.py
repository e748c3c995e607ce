"""The decoded copies of data: what they hold, and the bounds that are said aloud."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress import decoders
from bottle_fsm.egress.inflate import MAX_INFLATED, ScanLimitError, inflated
from bottle_fsm.egress.views import MAX_COPIED, MAX_SCANNED, decoded_views
from secret_encodings import NESTING, PACKED, raw_deflate

MIB = 1024 * 1024
TEXT = b"only a plain text 0123"


def test_the_first_view_is_the_data_itself() -> None:
    assert list(decoded_views(b"ab")) == [b"ab"]
    assert list(decoded_views(b"")) == [b""]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_undoes_three_encodings_and_no_fourth(depth: int) -> None:
    data = TEXT
    for _ in range(depth):
        data = base64.b64encode(data)
    assert any(TEXT in view for view in decoded_views(data)) == (depth <= 3)


@pytest.mark.parametrize("name", PACKED)
def test_undoes_one_layer_of_compression_and_no_second(name: str) -> None:
    pack = PACKED[name]
    assert any(TEXT in view for view in decoded_views(pack(TEXT)))
    assert not any(TEXT in view for view in decoded_views(pack(base64.b64encode(pack(TEXT)))))
    assert any(TEXT in view for view in decoded_views(pack(base64.b64encode(TEXT))))


@pytest.mark.parametrize(
    "data",
    [
        b"--b\r\nContent-Type: application/gzip\r\n\r\n" + gzip.compress(TEXT, mtime=0) + b"\r\n--b--",
        b"--b\n\n" + zlib.compress(TEXT) + b"\n--b--",
        b"ff" + gzip.compress(TEXT, mtime=0).hex().upper().encode(),
        zlib.compress(TEXT).hex().encode(),
        b"/upload/" + base64.urlsafe_b64encode(gzip.compress(TEXT, mtime=0)),
        b"a=+" + base64.b64encode(zlib.compress(TEXT)),
        b"x/" + base64.b64encode(gzip.compress(TEXT, mtime=0)),
        b"/" + base64.b64encode(raw_deflate(TEXT)),
        gzip.compress(b"first member ", mtime=0) + gzip.compress(TEXT, mtime=0) + b"rest",
        gzip.compress(TEXT * 50, 1, mtime=0)[:-9],
        zlib.compress(random.Random(1).randbytes(9000).hex().encode() + TEXT) + b"rest",
        gzip.compress(random.Random(1).randbytes(90_000).hex().encode() + TEXT, mtime=0),
    ],
)
def test_undoes_compression_where_a_stream_starts(data: bytes) -> None:
    assert any(TEXT in view for view in decoded_views(data))


def test_a_damaged_stream_gives_what_came_before() -> None:
    packed = bytearray(gzip.compress(TEXT + random.Random(1).randbytes(100_000)))
    packed[60_000:] = bytes(40_000)
    assert inflated(bytes(packed)).startswith(TEXT)


def test_what_looks_like_a_stream_and_is_none_gives_nothing() -> None:
    assert inflated(b"hC, this is no zlib") == b""
    assert inflated(b"") == b""
    assert inflated(b"\x1f\x8b\x08 no gzip") == b""


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_content_that_grows_too_much_is_said_aloud(pack: Callable[[bytes], bytes]) -> None:
    for data in (pack(bytes(100_000)), pack(bytes(MAX_INFLATED + 1))):
        for sent in (data, base64.b64encode(data)):
            with pytest.raises(ScanLimitError, match="scan_limit_expansion"):
                list(decoded_views(sent))


def test_content_may_be_as_long_as_the_bounds_allow() -> None:
    content = random.Random(1).randbytes(200_000) * 52
    assert inflated(gzip.compress(content[:MAX_INFLATED], 1)) == content[:MAX_INFLATED]
    assert inflated(zlib.compress(bytes(60_000))) == bytes(60_000)


def test_data_that_is_too_long_is_said_aloud() -> None:
    with pytest.raises(ScanLimitError, match="scan_limit_size"):
        next(decoded_views(bytes(MAX_SCANNED + 1)))


def test_too_many_copies_are_said_aloud() -> None:
    data = base64.b64encode(bytes(range(256)) * 4)
    views = [*decoded_views(data)]
    spent = sum(map(len, views[1:]))
    assert [*decoded_views(data, max_copied=spent + 4096)] == views
    with pytest.raises(ScanLimitError, match="scan_limit_copies"):
        list(decoded_views(data, max_copied=spent - 1))


@pytest.mark.parametrize(
    "data", [b"\n\nx\x9c" * (MAX_SCANNED // 4), b"eNoA" + b"A" * 16 + b" eNoAAAAAAAAAAAAAAAAA" * 200_000]
)
def test_ever_more_streams_to_try_end_in_a_bound_or_soon(data: bytes) -> None:
    started = time.process_time()
    try:
        for _ in decoded_views(data):
            pass
    except ScanLimitError as error:
        assert str(error) == "scan_limit_copies"  # noqa: PT017 - either end is right
    assert time.process_time() - started < 20


def words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(["const", "the", "value", "node_modules", "return", "of", "5", "%d"], k=count))


def wheel(dice: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", words(dice, 100_000))
        archive.writestr("b.so", dice.randbytes(9 * MIB))
    return file.getvalue()


def pack_of_git(dice: random.Random) -> bytes:
    objects = (b"\x95\x0a" + zlib.compress(words(dice, 50).encode()) for _ in range(20_000))
    return b"PACK\0\0\0\2" + b"".join(objects) + dice.randbytes(5 * MIB)


ORDINARY: dict[str, Callable[[random.Random], bytes]] = {
    "an image in base64": lambda dice: b"data:image/png;base64," + base64.b64encode(dice.randbytes(15 * MIB // 2 - 99)),
    "base64 in lines": lambda dice: base64.encodebytes(dice.randbytes(7 * MIB)),
    "base64 of base64": lambda dice: base64.b64encode(base64.b64encode(dice.randbytes(5 * MIB))),
    "empty space in base64": lambda dice: b"A" * MAX_SCANNED,
    "JSON": lambda dice: json.dumps(
        [{"id": dice.randbytes(16).hex(), "text": words(dice, 40) + '\n"'} for _ in range(30_000)]
    ).encode(),
    "other scripts in JSON": lambda dice: json.dumps("".join(map(chr, range(0x4E00, 0x9FFF))) * 80).encode(),
    "JavaScript": lambda dice: b'function a(e,t){return n["\\n%"+e]&&0x1f2e||b?c:"&lt;"};' * 180_000,
    "digests": lambda dice: "\n".join(f'"sha512-{dice.randbytes(64).hex()}",' for _ in range(70_000)).encode(),
    "random bytes": lambda dice: dice.randbytes(MAX_SCANNED),
    "a wheel": wheel,
    "a pack of git": pack_of_git,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_large_bodies_stay_far_within_the_bounds(name: str) -> None:
    data = ORDINARY[name](random.Random(name))
    assert len(data) > 5 * MIB
    started = time.process_time()
    copied = sum(map(len, decoded_views(data[:MAX_SCANNED]))) - len(data[:MAX_SCANNED])
    assert copied < MAX_COPIED / 2
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name", ["an image in base64", "JSON", "digests", "random bytes"])
def test_copies_are_not_kept(name: str) -> None:
    data = ORDINARY[name](random.Random(name))[:MIB]
    tracemalloc.start()
    for _ in decoded_views(data):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * MIB


@given(st.binary(max_size=400), st.sampled_from(sorted(NESTING)))
def test_no_data_makes_the_views_fail(data: bytes, name: str) -> None:
    for sent in (data, NESTING[name](data), gzip.compress(data), NESTING[name](gzip.compress(data))[:-3]):
        assert next(decoded_views(sent)) == sent
        assert len([*decoded_views(sent)]) >= 1


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        (b"nothing to do", b""),
        (b"%41%u0042%e9 100% %zz %u12", "ABé 100% %zz %u12".encode()),
        (rb"\u0041\/\"\n\\n\x42\101\-\U00000043\u{44}", b'A/"\n\\nBA-CD'),
        (rb"\x4 \u12 \U0011 \N{DASH} \777 \8", rb"\x4 \u12 \U0011 N{DASH} 777 8"),
        (rb"\ud83d\ude00", b"\xed\xa0\xbd\xed\xb8\x80"),
        (b"&#65;&#x42;&#x0043;&amp;&plus;&nosuch;&#0;&#9999999;&a=b", b"ABC&+&nosuch;&#9999999;&a=b"),
        (b"one\\\n  line", b"one  line"),
        (b"%5Cu0041", b"\\u0041"),
    ],
)
def test_undoes_one_layer_of_escapes(text: bytes, opened: bytes) -> None:
    assert decoders.unescape(text) == opened


def test_small_letters_are_base32_only_with_a_digit() -> None:
    prose, encoded = b"thequickbrownfoxjumpsoverthelazydog", b"mzxw6ytboi======"[:10] * 3
    assert decoders.base32_runs([prose, encoded, prose.upper()]) == [prose.upper(), encoded]
    assert [*decoders.from_base32([])] == []
