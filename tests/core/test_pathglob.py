"""Globs of paths: what they match, which covers which, and which are refused."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.pathglob import MAX_GLOB, MAX_STARS, glob_covers, glob_example, glob_matches, glob_problem

GLOB = st.lists(st.sampled_from(["a", "b", "/", "*"]), max_size=6).map(lambda parts: "/" + "".join(parts))
PATH = st.lists(st.sampled_from(["a", "b", "/", "*", "c"]), max_size=8).map(lambda parts: "/" + "".join(parts))


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("/repos/acme/*", "/repos/acme/widget", True),
        ("/repos/acme/*", "/repos/acme/widget/pulls/3", True),
        ("/repos/acme/*", "/repos/acme/", True),
        ("/repos/acme/*", "/repos/acme", False),
        ("/repos/acme/*", "/repos/acme-evil/x", False),
        ("/repos/acme/*", "/repos/Acme/x", False),
        ("/repos/acme/*", "/x/repos/acme/y", False),
        ("/repos/acme*", "/repos/acme-evil/x", True),
        ("/a/*/b", "/a/x/y/b", True),
        ("/a/*/b", "/a//b", True),
        ("/a/*/b", "/a/b", False),
        ("/a/*/b/*/c", "/a/x/b/y/c", True),
        ("/a/*/b/*/c", "/a/x/y/c", False),
        ("/a*a", "/a", False),
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/*", "/", True),
        ("/a.c", "/abc", False),
        ("/[ab]", "/a", False),
    ],
)
def test_matches_whole_paths_by_their_characters(glob: str, path: str, fits: bool) -> None:
    assert glob_matches(glob, path) is fits


@given(GLOB, PATH)
def test_matches_what_a_regular_expression_would(glob: str, path: str) -> None:
    wanted = ".*".join(re.escape(part) for part in glob.split("*"))
    assert glob_matches(glob, path) is bool(re.fullmatch(wanted, path, re.DOTALL))
    assert glob_matches(glob, path) is fnmatch.fnmatchcase(path, glob)


@given(GLOB, GLOB, PATH)
def test_covers_no_more_than_it_matches(glob: str, other: str, path: str) -> None:
    if glob_covers(glob, other) and glob_matches(other, path):
        assert glob_matches(glob, path)


@given(GLOB, GLOB)
def test_covers_all_that_it_matches(glob: str, other: str) -> None:
    # a sign that stands in no glob stands for everything that a star may be
    assert glob_covers(glob, other) is glob_matches(glob, glob_example(other, "\0"))


@given(GLOB, st.sampled_from(["bottle-selftest", "x"]))
def test_gives_an_example_that_it_matches(glob: str, label: str) -> None:
    assert "*" not in glob_example(glob, label)
    assert glob_matches(glob, glob_example(glob, label))


@pytest.mark.parametrize(
    "glob", ["/", "/*", "/repos/acme/*", "/a/*/b/*", "/.well-known/*", "/..a/*", "/a:b@c,d=e+(f)!"]
)
def test_accepts_sound_globs(glob: str) -> None:
    assert glob_problem(glob) is None


@pytest.mark.parametrize(
    ("glob", "words"),
    [
        ("", "does not begin with a slash"),
        ("repos/*", "does not begin with a slash"),
        ("*", "does not begin with a slash"),
        ("/" + "a" * MAX_GLOB, "is longer than 512 characters"),
        ("/" + "a*" * (MAX_STARS + 1), "holds more than 8 `*`"),
        ("/a%2f*", "holds `%`"),
        ("/a\\*", "holds a backslash"),
        ("/a?b=*", "holds `?`"),
        ("/a#b", "holds `#`"),
        ("/a;v=1/*", "holds `;`"),
        ("/a//b", "holds `//`"),
        ("//a", "holds `//`"),
        ("/a/**", "holds `**`"),
        ("/a/../*", "could lead elsewhere"),
        ("/a/./*", "could lead elsewhere"),
        ("/a/..", "could lead elsewhere"),
        ("/.", "could lead elsewhere"),
        ("/a/.../*", "could lead elsewhere"),
        ("/a/..+/*", "could lead elsewhere"),
        ("/a b", "holds ' '"),
        ("/\u00fc", "holds '\\xfc'"),
        ("/a\n", "holds '\\n'"),
        ("/a\0", "holds '\\x00'"),
        ("/[ab]", "holds '['"),
    ],
)
def test_refuses_a_glob_that_could_match_more_than_it_says(glob: str, words: str) -> None:
    found = glob_problem(glob)
    assert found is not None
    assert found[0].startswith(words)
    assert found[1]


def test_matches_in_time_that_grows_with_the_length_only() -> None:
    assert not glob_matches("/" + "a*" * 500, "/" + "a" * 400 + "b" * 60_000)
