"""Secret: a text that no accident can print. Masked in repr, str, format, JSON and pickles; one explicit `reveal()`."""

from __future__ import annotations

import hmac
from typing import NoReturn

MASK = "********"


class Secret:
    """A secret text.

    `reveal()` is the only way to the value; a test counts the places that call it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself. Never log, format or store what this returns."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key: a hash in a dump could be guessed at

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied into a dump")
