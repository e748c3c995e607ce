"""Templates and the environment: filling in, what is secret, and what is missing on this host."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.manifest import template
from bottle_fsm.manifest.env import SecretSource, fetch_secret, resolve_env, short_secret_warning
from bottle_fsm.manifest.model import Reach
from bottle_fsm.manifest.refusal import Refusal

CANARY = "canary-5b2c91d0e7"
PLAIN = st.text(st.characters(exclude_categories=["C"]))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)


def reach(**env: Any) -> Reach:
    return Reach.model_validate({"env": env})


def asked(question: str) -> str:
    return f"{CANARY}\n" if question == "Paste it" else ""


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$$", "$"),
        ("5 $$ and $${X}", "5 $ and ${X}"),
        ("${X}", "x"),
        ("<${X}${Y:-y}>", "<xy>"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${X:-d}", "x"),
        ("${NONE:-a b:-c}", "a b:-c"),
    ],
)
def test_fills_variables_in(text: str, filled: str) -> None:
    assert template.fill(text, {"X": "x", "EMPTY": ""}) == filled


@pytest.mark.parametrize(
    ("text", "position"),
    [("$X", 1), ("ab$", 3), ("${}", 1), ("${X", 1), ("${1X}", 1), ("${X-d}", 1), ("${X:-${Y}}", 1), ("$$$", 3)],
)
def test_refuses_any_other_dollar_sign(text: str, position: int) -> None:
    with pytest.raises(Refusal, match=f"at character {position} begins") as caught:
        template.parse(text)
    assert caught.value.hint == "Write `$$` for a dollar sign"


@given(PLAIN)
def test_gives_an_escaped_text_back_as_it_was(text: str) -> None:
    assert template.fill(text.replace("$", "$$"), {}) == text


@given(PLAIN, NAMES, PLAIN, PLAIN)
def test_never_fills_in_what_a_value_contains(before: str, name: str, value: str, after: str) -> None:
    text = f"{before.replace('$', '$$')}${{{name}}}{after.replace('$', '$$')}"
    assert template.fill(text, {name: value}) == before + value + after
    assert template.undefined(text, {}) == (name,)


@given(st.text("${}:-aA_0 ", max_size=20))
def test_parses_or_refuses_any_text(text: str) -> None:
    try:
        parts = template.parse(text)
    except Refusal:
        # Without a dollar sign there is nothing to refuse.
        assert "$" in text
    else:
        assert "".join(part for part in parts if isinstance(part, str)).count("$") == text.count("$$")


def test_resolves_literals_and_keeps_secret_values_out() -> None:
    found = resolve_env(
        reach(
            LANG="C.UTF-8",
            EDITOR="${EDITOR:-vi}",
            TOKEN={"from": "Bearer ${TOKEN}", "secret": True, "to": ["Api.example.org"]},
            KEY="?Paste it",
        ),
        {"TOKEN": CANARY},
    )
    assert found.literals == {"LANG": "C.UTF-8", "EDITOR": "vi"}
    assert found.secrets == {
        "TOKEN": SecretSource("TOKEN", "Bearer ${TOKEN}", asked=False, to=("api.example.org",)),
        "KEY": SecretSource("KEY", "Paste it", asked=True),
    }
    assert (found.problems, found.warnings) == ((), ())
    assert CANARY not in repr(found)


def test_does_not_take_a_host_value_for_secret_unless_told() -> None:
    found = resolve_env(reach(TOKEN="${TOKEN}"), {"TOKEN": CANARY})
    assert (found.literals, found.secrets) == ({"TOKEN": CANARY}, {})


def test_warns_of_a_secret_too_short_to_be_looked_for() -> None:
    found = resolve_env(reach(PIN={"from": "${PIN}", "secret": True}), {"PIN": "é" * 5})
    assert found.warnings == (short_secret_warning("PIN"),)
    assert found.warnings[0] == (
        "the secret `PIN` is shorter than 12 bytes: it is kept out of records, but too short to be looked for "
        "in requests"
    )
    assert resolve_env(reach(PIN={"from": "${PIN}", "secret": True}), {"PIN": "é" * 6}).warnings == ()


def test_names_each_undefined_variable_with_a_remedy() -> None:
    found = resolve_env(
        reach(A="${X}${Y}", B="${X:-}", T={"from": "${Z}", "secret": True}),
        {"Z": ""},
        place=lambda *keys: f"m:1 {keys}",
    )
    assert [str(problem) for problem in found.problems] == [
        "m:1 ('env', 'A'): the host variable `X` is not set. Set it, or write ${X:-default}",
        "m:1 ('env', 'A'): the host variable `Y` is not set. Set it, or write ${Y:-default}",
        "m:1 ('env', 'T'): the host variable `Z` is not set or empty. Set it",
    ]
    assert (found.literals, found.secrets) == ({"B": ""}, {})


@pytest.mark.parametrize(
    ("value", "words"),
    [("a\udce9b", "is not UTF-8 text"), ("x" * 65537, "is longer than 65536 bytes"), ("a\0b", "holds a NUL character")],
)
def test_refuses_values_that_no_environment_can_carry(value: str, words: str) -> None:
    (problem,) = resolve_env(reach(A="${X}"), {"X": value}).problems
    assert str(problem) == f"env/A: the value {words}. Give another value"
    with pytest.raises(DecisionNeededError, match=re.escape(f"the value of the secret `S` {words}")):
        fetch_secret(SecretSource("S", "${X}", asked=False), {"X": value}, None)


def test_fetches_a_secret_from_the_host() -> None:
    secret = fetch_secret(SecretSource("T", "Bearer ${X}", asked=False), {"X": CANARY}, None)
    assert secret.reveal() == f"Bearer {CANARY}"


def test_fetches_a_secret_from_the_terminal() -> None:
    assert fetch_secret(SecretSource("K", "Paste it", asked=True), {}, asked).reveal() == CANARY


@pytest.mark.parametrize("environ", [{}, {"X": ""}])
def test_needs_the_host_variable_of_a_secret(environ: dict[str, str]) -> None:
    with pytest.raises(DecisionNeededError) as caught:
        fetch_secret(SecretSource("T", "${X}", asked=False), environ, asked)
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        "env/T: the secret `T` needs the host variable `X`, which is not set or empty. "
        "Set X and run the same command again"
    )


def test_needs_a_terminal_for_a_question() -> None:
    with pytest.raises(DecisionNeededError) as caught:
        fetch_secret(SecretSource("K", "Paste it", asked=True), {}, None)
    assert str(caught.value) == (
        "env/K: the secret `K` is asked for on the terminal, and there is none. "
        'Run it on a terminal, or take the value from the host: {from: "${NAME}", secret: true}'
    )


def test_needs_an_answer_to_a_question() -> None:
    with pytest.raises(DecisionNeededError) as caught:
        fetch_secret(SecretSource("K", "Other", asked=True), {}, asked)
    assert str(caught.value) == (
        "env/K: no value was given for the secret `K`. Run the same command again and answer the question"
    )
