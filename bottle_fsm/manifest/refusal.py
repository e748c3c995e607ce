"""Refusal: how a validator of the manifest models says what is wrong with one value and how to go on.

Not its duty: where the value stands; `load` adds file, line and key path.
"""

from __future__ import annotations

from bottle_fsm.yamlfile import KeyPath


class Refusal(ValueError):  # noqa: N818 - it is no error of ours: pydantic catches it and `load` reads it back
    """A value is refused; `hint` says how to go on, and `at` which part of the value is meant, if not the whole."""

    def __init__(self, problem: str, hint: str = "", *, at: KeyPath = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.at = at
