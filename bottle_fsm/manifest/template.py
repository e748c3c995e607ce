"""`${NAME}` and `${NAME:-default}` in a manifest's texts: parsing, which variables are meant, and filling in.

Not its duty: where the values come from (`env`) and which of them are secret (`reach`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bottle_fsm.manifest.refusal import Refusal

_TOKEN: Final = re.compile(
    r"(?P<text>[^$]+)|(?P<dollar>\$\$)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<alt>:-(?P<default>[^${}]*))?\}"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A place where the value of a host variable goes; `default` counts when the variable is unset or empty."""

    name: str
    default: str | None = None


Part = str | Variable


def parse(text: str) -> tuple[Part, ...]:
    """Split a text into plain texts and variables.

    Raises:
        Refusal: a dollar sign begins neither `${NAME}`, `${NAME:-default}` nor `$$`.
    """
    parts: list[Part] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Refusal(
                f"the `$` at character {position + 1} begins no `${{NAME}}` and no `${{NAME:-default}}`",
                "Write `$$` for a dollar sign",
            )
        parts.append(_part(match))
        position = match.end()
    return tuple(parts)


def _part(match: re.Match[str]) -> Part:
    if match["name"]:
        return Variable(match["name"], match["default"] if match["alt"] else None)
    return match["text"] or "$"


def variables(text: str) -> tuple[Variable, ...]:
    """Return the variables of a text, in order."""
    return tuple(part for part in parse(text) if isinstance(part, Variable))


def undefined(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the variables that have neither a value nor a default."""
    return tuple(v.name for v in variables(text) if v.default is None and v.name not in environ)


def fill(text: str, environ: Mapping[str, str]) -> str:
    """Return the text with every variable's value in its place; `undefined` must have been empty."""
    return "".join(part if isinstance(part, str) else _value(part, environ) for part in parse(text))


def _value(variable: Variable, environ: Mapping[str, str]) -> str:
    if variable.default is None:
        return environ[variable.name]
    return environ.get(variable.name) or variable.default
