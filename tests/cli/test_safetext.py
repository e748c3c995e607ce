from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.safetext import safe, safe_block


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Ünïcödé ✓", "plain text, Ünïcödé ✓"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        (7, "7"),
    ],
)
def test_spells_out_what_could_harm_a_terminal(text: object, shown: str) -> None:
    assert safe(text) == shown


@given(st.text())
def test_leaves_one_line_of_printable_text(text: str) -> None:
    shown = safe(text)
    assert len(shown.splitlines()) <= 1
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_changes_no_harmless_text(text: str) -> None:
    assert safe(text) == text


def test_indents_every_further_line_of_a_block() -> None:
    assert safe_block("first\r\nerror: forged\n\x1b[2J", indent="  ") == "first\n  error: forged\n  \\x1b[2J"
