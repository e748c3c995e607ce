"""Ports, methods, paths and amounts as a manifest writes them; each wrong one is refused in its own words.

Not its duty: hosts (`hosts`), and holding anybody to them (`egress`, the backends).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.pathglob import glob_problem

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_RANGE: Final = re.compile(r"[0-9]{1,5} *[-:,] *[0-9]{1,5}")
_NEVER: Final = frozenset({"CONNECT", "TRACE", "TRACK"})
_MEMORY: Final = re.compile(r"([0-9]{1,12})([bkmgt]?)")
_UNITS: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LEAST_MEMORY: Final = 64 * 2**20


def is_range(value: object) -> bool:
    """Tell whether a text names a range of ports."""
    return isinstance(value, str) and _RANGE.fullmatch(value) is not None


def check_port(value: Any) -> Any:
    """Refuse a range of ports; whether anything else is a port, its type says."""
    if is_range(value):
        raise Refusal(f"`{value}` is a range of ports", "Write one entry for each port")
    return value


def check_method(value: Any) -> Any:
    """Refuse what is nearly a method, or one that never passes; which ones there are, the type says."""
    if not isinstance(value, str):
        return value
    if value.upper() in _NEVER:
        raise Refusal(f"`{value}` is never let through", "Remove it")
    if value not in get_args(Method) and value.upper() in get_args(Method):
        raise Refusal(f"`{value}` is not how a method is written", f"Write `{value.upper()}`")
    return value


def check_methods(value: Any) -> Any:
    """Refuse a list without methods: nobody can tell whether none or all are meant."""
    if value == []:
        raise Refusal("a list without methods would allow no request", "Name methods, or remove the key to allow all")
    return value


def check_paths(value: Any) -> Any:
    """Refuse a list without paths, as for methods."""
    if value == []:
        raise Refusal("a list without paths would allow no request", "Name paths, or remove the key to allow all")
    return value


def check_glob(value: str) -> str:
    """Accept a glob that matches nothing but what it says."""
    found = glob_problem(value)
    if found is not None:
        raise Refusal(f"the path `{value}` {found[0]}", found[1])
    return value


def check_memory(value: str) -> str:
    """Accept an amount of memory that an agent can run in, and return it in lower case."""
    text = value.lower()
    if _MEMORY.fullmatch(text) is None:
        raise Refusal(f"`{value}` is no amount of memory", "Write a number and a unit: 512m or 4g")
    if memory_bytes(text) < _LEAST_MEMORY:
        raise Refusal(f"`{value}` is too little for an agent", "Give at least 64m")
    return text


def memory_bytes(value: str) -> int:
    """Return an amount of memory that was accepted as a number of bytes."""
    digits = value.rstrip("bkmgt")
    return int(digits) * _UNITS[value[len(digits) :]]
