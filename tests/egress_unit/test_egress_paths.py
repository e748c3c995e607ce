"""Paths that are clear, and those that a server could take for others."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottle_fsm.egress import paths
from bottle_fsm.pathglob import glob_example, glob_problem

CLEAR = [
    "/",
    "/repos/acme/widget",
    "/repos/acme/",
    "/a.b/.well-known/x..y/~u/_-",
    "/a/b:c@d,e=f(g)!$&'*+h",
    "/a%20b/%C3%BCber/%e6%97%a5",
    "/%40scope/%5Bx%5D%7B%7D%22%3C",
    "/%61",
]
UNCLEAR = [
    "",
    "x",
    "*",
    "/.",
    "/..",
    "/./a",
    "/a/../b",
    "/a/..",
    "/a/.",
    "/a/.../b",
    "//",
    "//a",
    "/a//b",
    "/a/b//",
    "/a%2fb",
    "/a%2Fb",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a/.%2e",
    "/a%5cb",
    "/a%5Cb",
    "/a\\b",
    "/a/..\\b",
    "/a%00",
    "/a%0d%0a",
    "/a%7f",
    "/a%252fb",
    "/a%25%32%66b",
    "/a%25",
    "/a;b",
    "/a/..;/b",
    "/a%3bb",
    "/a%3fb",
    "/a%23b",
    "/a#b",
    "/a%",
    "/a%2",
    "/a%zz",
    "/a%u002fb",
    "/a b",
    "/a\tb",
    "/a\x00",
    "/\u00fc",
    "/a\u2215b",
    "/a%c0%afb",
    "/a/%c0%ae%c0%ae/b",
    "/a/%e0%80%af",
    "/%ff",
    "/%ed%a0%80",
    "/a" + quote("\uff0f") + "b",
    "/a/" + quote("\uff0e\uff0e") + "/b",
    "/a/" + quote("\u2025") + "/b",
    "/a" + quote("\uff3c") + "b",
    "/a" + quote("\u2215") + "b",
    "/a" + quote("\u2044") + "b",
    "/a" + quote("\u00a5") + "b",
    "/a" + quote("\uff05") + "2f",
    "/a" + quote("\uff1b") + "b",
    "/a/." + quote("\u200b") + "./b",
    "/a/." + quote("\u00ad") + "./b",
    "/a" + quote("\u2028"),
    "/a" + quote("\u0085"),
    "/a/..%20/b",
    "/a/..+/b",
    "/a/%20/b",
    "/a/.." + quote("\u3000") + "/b",
    '/a"b',
    "/a<b>",
    "/a|b",
    "/a^b",
    "/a`b",
    "/a{b}",
    "/a[b]",
]


@pytest.mark.parametrize("path", CLEAR)
def test_takes_plain_paths_as_clear(path: str) -> None:
    assert not paths.unclear(path)


@pytest.mark.parametrize("path", UNCLEAR)
def test_finds_paths_that_a_server_could_take_for_others(path: str) -> None:
    assert paths.unclear(path)


def test_matches_the_path_without_its_query_byte_for_byte() -> None:
    assert paths.path_of("/a/b?c=/d?e") == "/a/b"
    assert paths.allowed(("/x", "/a/*"), "/a/b")
    assert not paths.allowed(("/x", "/a/*"), "/%61/b")
    assert not paths.allowed((), "/a")


def _segments(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda path: "/".join(change(segment) for segment in path.split("/"))


WAYS: list[Callable[[str], str]] = [
    unquote,
    lambda path: unquote(path, "latin-1"),
    lambda path: posixpath.normpath(path) if path else path,
    lambda path: unicodedata.normalize("NFKC", path),
    lambda path: path.replace("\\", "/").replace("\u2215", "/").replace("\u2044", "/"),
    lambda path: re.sub(r"/+", "/", path),
    lambda path: re.sub(r";[^/]*", "", path),
    lambda path: re.split(r"[\0?#\r\n]", path)[0],
    lambda path: "".join(sign for sign in path if unicodedata.category(sign) not in {"Cc", "Cf"}),
    _segments(lambda segment: segment.rstrip()),
    lambda path: path.replace("+", " "),
]
"""What servers and the proxies before them do to a path."""
PIECES = st.sampled_from(
    [".", "..", "/", "\\", "%2f", "%2F", "%5c", "%2e", "%00", "%25", "%252e", "%c0%af", "%e2%88%95", "%ef%bc%8e",
     "%ef%bc%8f", "%e2%80%8b", "%20", "+", ";", ";x=", "%3b", "?", "%3f", "#", "%23", "a", "acme", "repos", "x",
     "%c3%bc", "\u00fc", "~", "%0a", "*"]
)  # fmt: skip
TAIL = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=10).map(quote) | st.text(max_size=10)
ORDER = st.lists(st.sampled_from(WAYS), min_size=1, max_size=6)


@settings(max_examples=500)
@given(TAIL, ORDER)
def test_what_is_allowed_below_a_place_stays_there_however_a_server_takes_it(
    tail: str, order: list[Callable[[str], str]]
) -> None:
    path = "/repos/acme/" + tail
    if paths.unclear(path) or not paths.allowed(["/repos/acme/*"], path):
        return
    for way in order:
        path = way(path)
    assert path == "/repos/acme" or path.startswith("/repos/acme/")


@given(TAIL, TAIL, ORDER)
def test_what_is_allowed_between_two_texts_keeps_both_however_a_server_takes_it(
    middle: str, odd: str, order: list[Callable[[str], str]]
) -> None:
    path = f"/a/{middle}/b"
    if paths.unclear(path) or not paths.allowed(["/a/*/b"], path):
        return
    for way in order:
        path = way(path)
    assert path.startswith("/a/")
    assert path.endswith("/b")


@given(st.text(max_size=20).map("/".__add__) | st.lists(PIECES, max_size=6).map("".join).map("/".__add__))
def test_no_sound_glob_is_in_vain(glob: str) -> None:
    if glob_problem(glob) is None:
        example = glob_example(glob, "bottle-selftest")
        assert not paths.unclear(example)
        assert paths.allowed([glob], example)


@pytest.mark.parametrize("piece", ["/", "x", "..%2f", ".."])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_refuses_what_is_encoded_more_than_once(piece: str, rounds: int) -> None:
    text = piece
    for _ in range(rounds):
        text = "".join(f"%{ord(sign):02x}" if sign in "./%" else sign for sign in text)
    assert paths.unclear(f"/a/{text}/b") is (piece != "x")


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method-Override", "x-http-method-override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override",
     "_method", " x-http-method "],
)  # fmt: skip
def test_finds_a_header_that_asks_for_another_method(name: str) -> None:
    assert paths.asks_for_another_method("/", [b"accept", name.encode()])


@pytest.mark.parametrize(
    "query",
    ["_method=DELETE", "a=b&_method=PUT", "_METHOD", "%5fmethod=x", "%255fmethod=x", "%5F%6dethod=x", "a;_method=x",
     ".method=x", "+_method=x", "%20_method=x", "[method=x", "_method%00x=y", "X-HTTP-Method-Override=DELETE",
     "x_http_method=PUT", "a#&_method=x", "?_method=x&_method"],
)  # fmt: skip
def test_finds_a_query_that_asks_for_another_method(query: str) -> None:
    assert paths.asks_for_another_method(f"/a?{query}", [])


@pytest.mark.parametrize("query", ["", "a=_method", "payment_method=card", "method=x", "http_method=GET", "_methods=1"])
def test_leaves_other_queries_alone(query: str) -> None:
    assert not paths.asks_for_another_method(f"/_method?{query}", [b"x-method", b"accept"])


@pytest.mark.parametrize(
    "name", ["X-Original-URL", "X-Rewrite-URL", "x_original_url", "X-Forwarded-Prefix", "Destination"]
)
def test_finds_a_header_that_asks_for_another_path(name: str) -> None:
    assert paths.asks_for_another_path([b"accept", name.encode()])
    assert not paths.asks_for_another_path([b"accept", b"x-forwarded-for", b"host"])


def test_each_way_of_a_server_makes_another_path_of_one_that_is_unclear() -> None:
    tried = [*UNCLEAR, *map(unquote, UNCLEAR)]
    assert all(any(way(path) != path for path in tried) for way in WAYS)
