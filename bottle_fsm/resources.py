"""Where the data files of this package are: beside the package in a source checkout, inside it when installed.

Not its duty: reading them.
"""

from __future__ import annotations

from pathlib import Path

from bottle_fsm.errors import BottleError

PACKAGE = Path(__file__).resolve().parent


def data_path(name: str, *, package: Path = PACKAGE) -> Path:
    """Return the directory of data files called `name` (`images`, `states`).

    Raises:
        BottleError: the installation is incomplete.
    """
    for candidate in (package / "_data" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise BottleError(
        f"the data directory {name!r} is missing",
        place=str(package),
        hint="The installation is incomplete: install bottle-fsm again",
    )
