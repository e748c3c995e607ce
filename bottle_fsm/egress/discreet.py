"""The stream of decisions without the bottle's known secrets: an agent may write one into a host, a path or a method.

Not its duty: other secrets. A path in which the guard found something is left out by whoever writes the line.
"""

from __future__ import annotations

from typing import Any, Final, TextIO

from bottle_fsm.egress.delivered import DeliveredSecrets
from bottle_fsm.egress.inflate import ScanLimitError
from bottle_fsm.egress.jsonlines import JsonLines

_AGENTS_WORDS: Final = ("host", "path", "method")
"""Fields that repeat what the agent wrote."""


class DiscreetLines(JsonLines):
    """Writes events as `JsonLines` does; a text that holds a known secret is replaced by the secret's name."""

    def __init__(
        self, secrets: DeliveredSecrets, *, stream: TextIO | None = None, descriptor: int = 1, **fixed: str
    ) -> None:
        super().__init__(stream=stream, descriptor=descriptor, **fixed)
        self._secrets = secrets

    def write(self, event: str, **fields: Any) -> None:
        """Write one event."""
        shown = {name: self._shown(name, fields[name]) for name in _AGENTS_WORDS if isinstance(fields.get(name), str)}
        super().write(event, **{**fields, **shown})

    def _shown(self, field: str, text: str) -> str:
        delivered = self._secrets.get()
        if delivered is None:
            return text
        try:
            names = delivered.known.found(text.encode("utf-8", "surrogateescape"))
        except ScanLimitError:
            return "[too much to look through]"
        if field == "host":
            names |= delivered.known.found_in_host(text)
        return f"[secret {', '.join(sorted(names))}]" if names else text
