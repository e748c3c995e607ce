"""The YAML reader: what it reads, each refusal with its words, and that no bytes make it fail otherwise."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from bottle_fsm import yamlfile
from bottle_fsm.errors import ManifestError
from bottle_fsm.yamlfile import Document


def refused(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        yamlfile.loads(text, "f.yaml")
    return str(caught.value)


def test_reads_plain_data_with_the_core_schema() -> None:
    text = """
a: 1
b: -0.5
c: [true, False, ~, null, ""]
d: {no: off, on: yes, time: 22:30, octal: 010, date: 2026-01-01, inf: .inf, hex: 0x1f}
"e": '1'
f: |
  two
  lines
"""
    assert yamlfile.loads(text, "f").value == {
        "a": 1,
        "b": -0.5,
        "c": [True, False, None, None, ""],
        "d": {
            "no": "off",
            "on": "yes",
            "time": "22:30",
            "octal": "010",
            "date": "2026-01-01",
            "inf": ".inf",
            "hex": "0x1f",
        },
        "e": "1",
        "f": "two\nlines\n",
    }


def test_remembers_the_line_of_each_key_and_item() -> None:
    document = yamlfile.loads("# c\na: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "f.yaml")
    assert document.line(("a",)) == 2
    assert document.line(("b",)) == 3
    assert document.line(("b", 0)) == 4
    assert document.line(("b", 1, "d")) == 6
    assert document.place(("b", 1, "d")) == "f.yaml:6 b/1/d"
    assert document.place(()) == "f.yaml:2"


def test_gives_the_line_of_the_nearest_key_above_an_unknown_one() -> None:
    document = yamlfile.loads("a: 1\nb:\n  c: 2\n", "f.yaml")
    assert document.line(("b", "nothing", 7)) == 2
    assert document.place(("b", "x")) == "f.yaml:2 b/x"
    assert document.line(("z",)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3 a: the key `a` stands here and on line 1. Keep one of them"),
        ("x:\n  a: 1\n  'a': 3\n", "f.yaml:3 x/a: the key `a` stands here and on line 2. Keep one of them"),
        ("a: &x 1\n", "f.yaml:1: the anchor `&x` is refused. Write the value out where it is used"),
        ("a: *x\n", "f.yaml:1: the alias `*x` is refused. Write the value out where it is used"),
        ("*x : 1\n", "f.yaml:1: the alias `*x` is refused. Write the value out where it is used"),
        (
            "a: !!python/object:os.system 1\n",
            (
                "f.yaml:1: the tag `tag:yaml.org,2002:python/object:os.system` is refused. "
                "Remove it; quotes make a value a text"
            ),
        ),
        ("a: !x {b: 1}\n", "f.yaml:1: the tag `!x` is refused. Remove it; quotes make a value a text"),
        ("1: a\n", "f.yaml:1: the key `1` is not a text. Put it in quotes"),
        ("true: a\n", "f.yaml:1: the key `true` is not a text. Put it in quotes"),
        ("? [a, {b: c}]\n: 1\n", "f.yaml:1: a key must be a text, not a list or a mapping. Put it in quotes"),
        ("? {a: b}\n: 1\n", "f.yaml:1: a key must be a text, not a list or a mapping. Put it in quotes"),
        ("- a\n", "f.yaml:1: the file must hold a mapping of keys. Begin with a line such as `version: 1`"),
        ("text\n", "f.yaml:1: the file must hold a mapping of keys. Begin with a line such as `version: 1`"),
        ("", "f.yaml:1: the file holds no keys. Begin with a line such as `version: 1`"),
        ("# only a comment\n", "f.yaml:1: the file holds no keys. Begin with a line such as `version: 1`"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: the file holds more than one document. Use one file for each"),
        ("a: 1\nb: \x07\n", "f.yaml:2: the text holds the control character U+0007. Remove it"),
        ("a: 1\nb: x\x00\n", "f.yaml:2: the text holds the control character U+0000. Remove it"),
        ('a: 1\nb: "\\0"\n', "f.yaml:2 b: the text holds the control character U+0000. Remove it"),
        ('"\\x1b": 1\n', "f.yaml:1: the text holds the control character U+001B. Remove it"),
        ("a: \ud800\n", "f.yaml:1: the text holds half of a surrogate pair. Remove it"),
        ("a: " + "[" * 40, "f.yaml:1: the file is nested deeper than 32 levels. Flatten it"),
        ("a: " + "9" * 40, f"f.yaml:1 a: the number `{'9' * 40}` is too large. Put it in quotes if it is a text"),
        ("a: 1.0e999", "f.yaml:1 a: the number `1.0e999` is too large. Put it in quotes if it is a text"),
        (
            "a: 1\nb: c: d\n",
            (
                "f.yaml:2: this is not valid YAML: mapping values are not allowed in this context. "
                "Check indentation, colons and quotes"
            ),
        ),
        (
            "a: [1\n",
            "f.yaml:2: this is not valid YAML: did not find expected ',' or ']'. Check indentation, colons and quotes",
        ),
    ],
)
def test_refuses_with_place_and_remedy(text: str, message: str) -> None:
    assert refused(text) == message


def test_reports_all_problems_of_a_file() -> None:
    assert [line.split(":")[1].split()[0] for line in refused("a: 1\na: 2\nb: *x\nc: !y z\n").splitlines()] == [
        "2",
        "3",
        "4",
    ]


def test_stops_collecting_after_a_bounded_number_of_problems() -> None:
    assert len(refused("a: [" + "*x, " * 1000 + "]").splitlines()) == yamlfile.MAX_PROBLEMS
    assert len(refused("a: &q [" + "&b !t x, " * 1000 + "]").splitlines()) == yamlfile.MAX_PROBLEMS


def test_refuses_a_text_over_one_mebibyte() -> None:
    assert refused("a: " + "é" * (yamlfile.MAX_BYTES // 2)).startswith("f.yaml: the text is larger than 1 MiB")


def test_reads_a_text_of_exactly_one_mebibyte() -> None:
    text = "a: '" + "x" * (yamlfile.MAX_BYTES - 5) + "'"
    assert len(yamlfile.loads(text, "f").value["a"]) == yamlfile.MAX_BYTES - 5


def test_refuses_to_go_on_without_the_c_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert (
        refused("a: 1")
        == "f.yaml: PyYAML was installed without its C loader. Install PyYAML with libyaml, as its wheels are"
    )


def test_reads_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert yamlfile.load(file).value == {"a": 1}


def refused_file(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        yamlfile.load(path)
    return str(caught.value)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refused_file(path) == f"{path}: the file does not exist. Give the path of a YAML file"


def test_refuses_a_directory(tmp_path: Path) -> None:
    assert refused_file(tmp_path) == f"{tmp_path}: the file is a directory. Give the path of a YAML file"


def test_refuses_a_pipe_without_waiting_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert refused_file(path) == f"{path}: the file is not a regular file. Give the path of a YAML file"


def test_refuses_an_unreadable_path(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    assert refused_file(path) == f"{path}: the file cannot be read (File name too long). Give the path of a YAML file"
    assert "embedded null byte" in refused_file(Path("a\0b"))


def test_refuses_a_file_over_one_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (yamlfile.MAX_BYTES + 1))
    assert refused_file(path) == f"{path}: the file is larger than 1 MiB. Give the path of a YAML file"


def test_refuses_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert refused_file(path) == f"{path}:2: the file is not UTF-8 text. Save it as UTF-8"


def test_does_not_expand_a_bomb_of_aliases() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    assert "the anchor `&a` is refused" in refused(bomb)


def outcome(read: Callable[[], Document]) -> Document | ManifestError:
    try:
        return read()
    except ManifestError as error:
        return error


@given(st.binary(max_size=400))
@example(b"a: &a [*a]")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"? ? ? a")
@example(b"{a: 1, ? b}")
def test_gives_a_document_or_a_manifest_error_for_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.yaml"
        path.write_bytes(data)
        answer = outcome(partial(yamlfile.load, path))
        if isinstance(answer, ManifestError):
            assert all(problem.place.startswith(str(path)) for problem in answer.problems)
        else:
            assert isinstance(answer.value, dict)


@given(st.text(alphabet="ab:-?[]{},&*!|>'\"#%@ \n\t0~", max_size=80))
def test_gives_a_document_or_a_manifest_error_for_any_punctuation(text: str) -> None:
    answer = outcome(partial(yamlfile.loads, text, "f"))
    assert answer.problems if isinstance(answer, ManifestError) else isinstance(answer.value, dict)


Text = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20)
Data = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**16), 10**16) | Text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(Text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(Text, Data, min_size=1, max_size=4))
def test_reads_json_as_what_it_is(value: dict[str, object]) -> None:
    assert yamlfile.loads(json.dumps(value, ensure_ascii=False), "f").value == value
