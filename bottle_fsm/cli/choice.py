"""Which bottles are meant: a full name, an agent's name, or the beginning of either, as long as it is only one's."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from bottle_fsm.errors import UsageError


def choose(word: str, known: Collection[str]) -> str:
    """Return the bottle of `known` that a word means.

    Raises:
        UsageError: none is meant, or more than one.
    """
    if word in known:
        return word
    agents = [bottle for bottle in known if bottle.partition("/")[2] == word]
    starts = [bottle for bottle in known if bottle.startswith(word) or bottle.partition("/")[2].startswith(word)]
    found = sorted(agents or starts)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"`{word}` may mean {', '.join(found[:5])}", place="BOTTLE", hint="Write it as project/agent")
    raise UsageError(f"there is no bottle `{word}`", place="BOTTLE", hint=_nearest(word, known))


def choose_all(words: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the bottles that several words mean, each once, in the words' order.

    Raises:
        UsageError: as `choose`.
    """
    return list(dict.fromkeys(choose(word, known) for word in words))


def _nearest(word: str, known: Collection[str]) -> str:
    if not known:
        return "There is none in this state directory; `bottle-fsm apply MANIFEST` makes one"
    names = {bottle: bottle for bottle in known} | {bottle.partition("/")[2]: bottle for bottle in known}
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(dict.fromkeys(names[name] for name in close))}?"
    return f"Known are {', '.join(sorted(known)[:10])}"
