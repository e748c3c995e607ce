"""Globs of paths, as a rule writes them: which ones are sound, what they match, and which covers which.

`*` stands for any text, slashes and no text at all included; everything else stands for itself, byte for byte. There
are no other signs. So `/repos/acme/*` is all that lies below `/repos/acme/`.

Pure, standard library only: it is imported inside the sidecars, too. Not its duty: which paths of a request are clear
enough to be matched at all (`egress.paths`); a glob is only ever asked about those.
"""

from __future__ import annotations

import re
from typing import Final

MAX_GLOB: Final = 1024
_OTHER: Final = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,:=@/]")
_SAFE: Final = "Name a place that lies above all paths that are meant, such as `/repos/acme/*`"
_NEVER: Final[tuple[tuple[str, str, str], ...]] = (
    ("%", "holds `%`, and encoded paths are compared as they are sent", "Write `*` in its place"),
    ("\\", "holds a backslash, which some servers take for a slash", "Write `/`"),
    ("?", "holds `?`: a path is compared without its query", "Write the path alone; `*` stands for any text"),
    ("#", "holds `#`: what follows it is never sent", "Write the path alone"),
    (";", "holds `;`, behind which some servers read parameters", "Write `*` in its place"),
    ("//", "holds `//`, which some servers take for one slash", "Write one slash"),
    ("**", "holds `**`, which says no more than `*`", "Write `*`: it stands for any text, slashes included"),
)


def glob_problem(glob: str) -> tuple[str, str] | None:
    """Return what is wrong with a glob (to stand after its name) and a hint; None when it is sound.

    A glob that is sound matches nothing that a server would place elsewhere than the glob says.
    """
    if not glob.startswith("/"):
        return "does not begin with a slash", "Write `/…`"
    if len(glob) > MAX_GLOB:
        return f"is longer than {MAX_GLOB} characters", "Write `*` in place of a part"
    for sign, problem, hint in _NEVER:
        if sign in glob:
            return problem, hint
    if any(segment in {".", ".."} for segment in glob.split("/")):
        return "could lead elsewhere: a segment of dots is taken out, with the one before it", _SAFE
    if other := _OTHER.search(glob):
        return f"holds {other[0]!a}, which is always encoded in a path", "Write `*` in its place"
    return None


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
