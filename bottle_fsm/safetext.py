"""Text from elsewhere, made harmless for a terminal and for a line of a log.

Names, causes, host names and a sidecar's last lines come from manifests, engines and agents. Nothing in them may move
the cursor, colour the screen, reverse the reading order or begin a line of its own.
"""

from __future__ import annotations

import re
from typing import Final

_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 (escape, newline, tab among them), DEL and C1
    "\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # invisible, separating, re-ordering
    "\ud800-\udfff"  # lone surrogates, which no terminal encoding takes
    "\U000e0000-\U000e007f]"  # tags: a text that nobody sees
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def safe(text: object) -> str:
    """Return a text on one line in which every harmful character is spelled out, as Python would spell it."""
    return _HARMFUL.sub(_spell, str(text))


def safe_block(text: object, *, indent: str = "    ") -> str:
    """Return a text of several lines; all but the first are indented, so that none passes for a line of ours."""
    lines = [safe(line) for line in str(text).replace("\r\n", "\n").split("\n")]
    return f"\n{indent}".join(lines).rstrip()


def _spell(match: re.Match[str]) -> str:
    character = match.group()
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if number <= 0xFF:  # noqa: PLR2004 - one byte
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 - two bytes
