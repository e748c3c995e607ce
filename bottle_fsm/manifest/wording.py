"""Turns the findings of pydantic into problems in plain words: what is wrong, and how to go on.

Not its duty: where it stands; `load` adds file and line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.shape import keys_of, model_at

Words = tuple[str, str]
"""What is wrong, and a hint."""


def word(error: ErrorDetails) -> Words:
    """Return problem and hint for one finding of pydantic."""
    writer = _WRITERS.get(error["type"])
    return writer(error) if writer else (_lower(error["msg"]), "")


def found(value: Any) -> str:
    """Return how a message names a value that has the wrong type."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value)
    return f"`{text[:40]}…`" if len(text) > len("`…`") + 40 else f"`{text}`"


def nearest(word_: str, known: tuple[str, ...]) -> str:
    """Return a hint that names the known word most like this one, or all known words."""
    spelled = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word_.lower(), spelled, n=1, cutoff=0.6)
    return f"Did you mean `{spelled[close[0]]}`?" if close else f"Known are: {', '.join(known)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _unknown_key(error: ErrorDetails) -> Words:
    *parent, key = error["loc"]
    model = model_at(tuple(parent))
    return f"the key `{key}` is not known", nearest(str(key), keys_of(model)) if model else ""


def _missing(error: ErrorDetails) -> Words:
    key = str(error["loc"][-1])
    model = model_at(tuple(error["loc"][:-1]))
    meanings = {f.alias or name: f.description for name, f in model.model_fields.items()} if model else {}
    meaning = meanings.get(key)
    return f"the key `{key}` is missing", f"Add it: {meaning}" if meaning else "Add it"


def _wrong_type(wanted: str, hint: str = "") -> Callable[[ErrorDetails], Words]:
    return lambda error: (f"{wanted} is wanted here, but {found(error['input'])} was found", hint)


def _text(error: ErrorDetails) -> Words:
    value = error["input"]
    hint = "" if isinstance(value, dict | list) else f'Put it in quotes: "{str(value).lower()}"'
    return f"a text is wanted here, but {found(value)} was found", hint


def _choice(error: ErrorDetails) -> Words:
    expected = str(error.get("ctx", {}).get("expected", "")).replace("'", "`")
    known = tuple(part.strip("` ") for part in expected.replace(" or ", ",").split(","))
    problem = f"{found(error['input'])} is not possible here; {expected} is"
    if not isinstance(error["input"], str):
        return problem, ""
    if error["input"] in known:
        return f"the text {problem}", "Write it without quotes"
    hint = nearest(error["input"], known)
    return problem, hint if hint.startswith("Did") else ""


def _refused(error: ErrorDetails) -> Words:
    cause = error.get("ctx", {}).get("error")
    return (cause.problem, cause.hint) if isinstance(cause, Refusal) else (_lower(error["msg"]), "")


def _bound(relation: str, limit: str) -> Callable[[ErrorDetails], Words]:
    return lambda error: (f"{found(error['input'])} must be {relation} {error.get('ctx', {}).get(limit):g}", "")


def _empty(error: ErrorDetails) -> Words:
    least = error.get("ctx", {}).get("min_length", 1)
    return f"the list needs at least {least} item", "Add one, or remove the key"


_WRITERS: Final[Mapping[str, Callable[[ErrorDetails], Words]]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "string_type": _text,
    "int_type": _wrong_type("a whole number"),
    "float_type": _wrong_type("a number"),
    "bool_type": _wrong_type("`true` or `false`"),
    "tuple_type": _wrong_type("a list", "Write it as `[one, two]`, or one item a line after `- `"),
    "dict_type": _wrong_type("a mapping", "Write `key: value` lines below it"),
    "model_type": _wrong_type("a mapping", "Write `key: value` lines below it"),
    "literal_error": _choice,
    "value_error": _refused,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _empty,
}
