"""The program's entry."""

from __future__ import annotations

from bottle_fsm.cli.door import make_door

door = make_door()


def main() -> None:
    """Run the command line of this process."""
    door.main()
