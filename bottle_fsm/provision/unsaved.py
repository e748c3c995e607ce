"""What would be lost if a bottle went: what the agent changed in its workspace. Looks only."""

from __future__ import annotations

from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.places import WORKSPACE
from bottle_fsm.provision.git import MARK

STOPPED: Final = "its workspace cannot be looked at while it is stopped"
_CHANGES: Final = """
cd "$1" 2>/dev/null || exit 0
if [ -e .git ] && command -v git >/dev/null 2>&1; then
  echo "changed $(git status --porcelain 2>/dev/null | wc -l)"
  echo "commits $(git log --oneline --branches --not --remotes 2>/dev/null | wc -l)"
elif [ -e "$2" ]; then
  echo "changed $(find . -type f -newer "$2" 2>/dev/null | wc -l)"
else
  echo "changed $(find . -type f 2>/dev/null | wc -l)"
fi
"""


def workspace_changes(bottle: Bottle) -> str:
    """Say in a few words what the agent changed in its workspace; empty when it changed nothing."""
    result = bottle.exec(["sh", "-c", _CHANGES, "sh", WORKSPACE, MARK])
    counts = dict(line.split() for line in result.text.splitlines() if len(line.split()) == 2)  # noqa: PLR2004 - a pair
    changed, commits = int(counts.get("changed", 0)), int(counts.get("commits", 0))
    words = [f"{changed} changed files" if changed else "", f"{commits} commits that no remote has" if commits else ""]
    found = " and ".join(word for word in words if word)
    return f"its workspace has {found}" if found else ""
