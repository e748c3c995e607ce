"""The secrets that are delivered to a running interceptor: until they are there and make sense, nothing is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bottle_fsm.egress.settings import SettingsError, Tokens

MAX_FILE: Final = 64 * 1024


class DeliveredTokens:
    """The tokens in a file on tmpfs, looked for anew on each question until they are found once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: Tokens | None = None

    def get(self) -> Tokens | None:
        """Return the tokens, or None while they are not delivered or malformed."""
        if self._tokens is None:
            self._tokens = self._read()
        return self._tokens

    def _read(self) -> Tokens | None:
        try:
            with self._path.open("rb") as file:
                return Tokens.of(json.loads(file.read(MAX_FILE)))
        except (OSError, ValueError, SettingsError):
            return None
