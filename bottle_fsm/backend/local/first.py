"""How the first process of a sandbox (`inner`) is brought into it and begun. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local import inner
from bottle_fsm.backend.local.places import CODE
from bottle_fsm.backend.local.sandbox import CONTROL

SOURCE: Final = Path(inner.__file__).parent
"""On this host: what is bound to `TARGET`."""
TARGET: Final = f"{CODE}/inner"
GO: Final = "{go}"
"""Placeholder, as those of `sandbox`: the descriptor from which the first process reads the word to go."""
_BEGIN: Final = f"import sys; sys.path.append('{CODE}'); from inner.process import begin; sys.exit(begin(sys.argv[1]))"


def words(
    python: str,
    *,
    main: Sequence[str] = (),
    bridges: Iterable[Mapping[str, str]] = (),
    limits: Mapping[str, int],
) -> tuple[str, ...]:
    """Return the command line of a first process.

    Args:
        python: the interpreter, inside.
        main: the one program that it runs; empty for none, it serves until it is ended.
        bridges: `listen` and `to`, each `tcp:ADDRESS:PORT` or `unix:PATH`.
        limits: numbers, by the names of `inner.process.LIMITS`.
    """
    config = {"bridges": list(bridges), "main": list(main), "limits": dict(limits), "control": CONTROL, "go": GO}
    text = json.dumps(config).replace(f'"{CONTROL}"', CONTROL).replace(f'"{GO}"', GO)
    return (python, "-I", "-S", "-c", _BEGIN, text)
