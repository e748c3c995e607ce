"""Globs of paths, as a rule writes them: which ones are sound, what they match, and which covers which.

`*` stands for any text, slashes and no text at all included; everything else stands for itself, byte for byte. There
are no other signs. So `/repos/acme/*` is all that lies below `/repos/acme/`.

Pure, standard library only: it is imported inside the sidecars, too. Not its duty: which paths of a request are clear
enough to be matched at all (`egress.paths`); a glob is only ever asked about those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MAX_GLOB: Final = 512
MAX_STARS: Final = 8
_OTHER: Final = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,:=@/]")
_NEVER: Final[Mapping[str, tuple[str, str]]] = {
    "%": ("holds `%`, and encoded paths are compared as they are sent", "Write `*` instead"),
    "\\": ("holds a backslash, which some servers take for a slash", "Write `/`"),
    "?": ("holds `?`: a path is compared without its query", "Write the path alone; `*` stands for any text"),
    "#": ("holds `#`: what follows it is never sent", "Write the path alone"),
    ";": ("holds `;`, behind which some servers read parameters", "Write `*` instead"),
    "//": ("holds `//`, which some servers take for one slash", "Write one slash"),
    "**": ("holds `**`, which says no more than `*`", "Write `*`: it stands for any text, slashes included"),
}
_DOTS: Final = (
    "could lead elsewhere: servers take a segment of dots out, and the one before it",
    "Name the place itself, such as `/repos/acme/*`",
)


def glob_problem(glob: str) -> tuple[str, str] | None:
    """Return what is wrong with a glob (to stand after its name) and a hint; None when it is sound.

    What a sound glob matches of clear paths lies where the glob says, however a server takes it apart.
    """
    other = _OTHER.search(glob)
    checks = (
        (not glob.startswith("/"), ("does not begin with a slash", "Write `/…`")),
        (len(glob) > MAX_GLOB, (f"is longer than {MAX_GLOB} characters", "Write `*` in place of a part")),
        (glob.count("*") > MAX_STARS, (f"holds more than {MAX_STARS} `*`", "Write one `*` in place of several parts")),
        *((sign in glob, words) for sign, words in _NEVER.items()),
        (any(segment and not segment.strip(".+") for segment in glob.split("/")), _DOTS),
        (
            other is not None,
            (f"holds {other[0] if other else ''!a}, which stands encoded in a path", "Write `*` instead"),
        ),
    )
    return next((words for wrong, words in checks if wrong), None)


def glob_matches(glob: str, path: str) -> bool:
    """Tell whether a glob matches a whole path, in time that grows with their length only."""
    first, *rest = glob.split("*")
    if not rest:
        return path == first
    *middle, last = rest
    if not path.startswith(first):
        return False
    at = len(first)
    for part in middle:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(path) - len(last) >= at and path.endswith(last)


def glob_covers(glob: str, other: str) -> bool:
    """Tell whether a glob matches everything that another one matches."""
    # Only a `*` can take in a `*`, for no other part of a glob holds one.
    return glob_matches(glob, other)


def glob_example(glob: str, label: str) -> str:
    """Return a path that a glob matches, with `label` for each `*`."""
    return glob.replace("*", label)
