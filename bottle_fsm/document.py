"""Document: what a YAML file becomes here, plain data and the line of each key; and the meaning of unquoted scalars.

Not its duty: parsing (`yamlfile`), and what the keys mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Key = str | int
KeyPath = tuple[Key, ...]

_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS: Final = 18


def key_text(path: KeyPath) -> str:
    """Return a key path as messages write it: `agents/implementer/skills/0`."""
    return "/".join(str(key) for key in path)


def place_text(name: str, line: int | None, path: KeyPath = ()) -> str:
    """Return `file:line key/path`, without the parts that are not known."""
    where = name if line is None else f"{name}:{line}"
    return f"{where} {key_text(path)}" if path else where


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document: its name, its value, and the line of every key and list item."""

    name: str
    value: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(repr=False)

    def line(self, path: KeyPath) -> int:
        """Return the line (from 1) of a key or list item; of the nearest one above it where there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: KeyPath) -> str:
        """Return `file:line key/path`."""
        return place_text(self.name, self.line(path), path)


def plain_scalar(text: str) -> Any:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2, without `.inf` and `.nan`.

    Raises:
        OverflowError: a number that not every reader of JSON would hold exactly, or at all.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise OverflowError
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise OverflowError
        return number
    return text
