"""Fill the workspace once, and give git its identity. After the first completion the copy never runs again.

The mark of completion is root's, outside the workspace: the agent cannot remove it, and no crash makes a half-filled
workspace look finished. Not its duty: which files go along (`workspace`); mounting a bound directory (the backend).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.model import Json, canonical
from bottle_fsm.places import AGENT_HOME
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.shell import checked, shell
from bottle_fsm.provision.workspace import pack, survey
from bottle_fsm.steps import Step, Steps

MARK: Final = "/var/lib/bottle/workspace.json"
"""`{"state": "begun" | "complete", "sha256": digest of the bytes that are copied, "files": …, "bytes": …}`"""
_INCOMING: Final = f"{AGENT_HOME}/.bottle/workspace.tar"
_UNPACK_SECONDS: Final = 600.0

_READ_MARK: Final = f"cat {MARK} 2>/dev/null"
_UNPACK: Final = """
set -e
tar -xf "$2" -C "$1"
rm -f "$2"
# only files are copied, and git wants these even when they are empty
[ ! -d "$1/.git" ] || mkdir -p "$1/.git/objects" "$1/.git/refs"
if [ -d "$1/.git" ] && command -v git >/dev/null 2>&1; then
  cd "$1"
  # the index is not copied: it is made from HEAD, and what differs on disk shows as the user's changes
  ! git rev-parse -q --verify HEAD >/dev/null || git reset -q
fi
"""
_CONFIGURE: Final = """
command -v git >/dev/null 2>&1 || { [ -z "$2$3" ] || echo missing; exit 0; }
changed=
put() {
  [ "$(git config --global --get "$1")" = "$2" ] || { git config --global "$1" "$2" && changed=$changed$1,; }
}
git config --global --get-all safe.directory | grep -qxF "$1" || {
  git config --global --add safe.directory "$1"; changed=safe.directory,
}
[ -z "$2" ] || put user.name "$2"
[ -z "$3" ] || put user.email "$3"
echo "changed=$changed"
"""
_STATE: Final = """
[ -d "$1" ] || echo missing
[ -w "$1" ] || echo readonly
git config --global --get user.name 2>/dev/null | sed 's/^/name=/'
git config --global --get user.email 2>/dev/null | sed 's/^/email=/'
git config --global --get-all safe.directory 2>/dev/null | sed 's/^/safe=/'
exit 0
"""


class GitProvisioner:
    """`item.inputs`: `mode`, `target`, `source`, `kind`, `files`, `bytes`, and `user` with `name` and `email`."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:
        """Copy the workspace unless it was ever completed; set identity and `safe.directory` where they differ."""
        inputs = item.inputs
        if inputs["mode"] == "copy":
            step.evidence("workspace", _fill(bottle, inputs, steps))
        user = inputs.get("user") or {}
        arguments = (inputs["target"], user.get("name", ""), user.get("email", ""))
        said = checked(bottle, _CONFIGURE, *arguments, what="git").text
        if said == "missing":
            raise ProvisionError(
                "the image has no git to give an identity to", place="git", hint="Put git into the image"
            )
        step.evidence("git", {"identity": user, "changed": said.removeprefix("changed=").strip(",")})

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look whether the workspace was completed and git knows its identity."""
        inputs = item.inputs
        lines = checked(bottle, _STATE, inputs["target"], what="git").text.splitlines()
        if "missing" in lines:
            raise ProvisionError(f"{inputs['target']} is not there", place="git")
        if "readonly" in lines:
            raise ProvisionError(f"the agent cannot write in {inputs['target']}", place="git")
        if inputs["mode"] == "copy" and read_mark(bottle).get("state") != "complete":
            raise ProvisionError("the workspace copy was not completed", place="git")
        user = inputs.get("user") or {}
        for key, value in user.items():
            if f"{key}={value}" not in lines:
                raise ProvisionError(f"git's user.{key} is not as planned", place="git")


def read_mark(bottle: Bottle) -> Json:
    """Return the completion mark; an empty object when no copy was ever begun."""
    try:
        value = json.loads(shell(bottle, _READ_MARK, user="root").stdout)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _fill(bottle: Bottle, inputs: Json, steps: Steps) -> Json:
    mark = read_mark(bottle)
    if mark.get("state") == "complete":
        return {**mark, "changed": False}
    found = survey(_present(Path(inputs["source"])))
    steps.say(f"workspace: {len(found.files)} files, {found.size} bytes")
    with tempfile.NamedTemporaryFile(prefix="bottle-workspace-") as scratch:
        digest = pack(found, scratch)
        scratch.flush()
        if mark and mark.get("sha256") != digest:
            raise DecisionNeededError(
                f"{found.source} changed since its copy was interrupted",
                place="git",
                hint="Destroy the bottle and apply again, so that it does not hold a mixture of both",
            )
        counted = {"sha256": digest, "kind": found.kind, "files": len(found.files), "bytes": found.size}
        _write_mark(bottle, {"state": "begun", **counted})
        bottle.copy_in(Path(scratch.name), _INCOMING, mode=0o600, owner="agent")
    checked(bottle, _UNPACK, inputs["target"], _INCOMING, what="workspace", timeout=_UNPACK_SECONDS)
    _write_mark(bottle, {"state": "complete", **counted})
    return {**counted, "changed": True}


def _present(source: Path) -> Path:
    if not source.is_dir():
        raise DecisionNeededError(
            f"the workspace {source} is no longer there", place="git", hint="Restore it, then resume"
        )
    return source


def _write_mark(bottle: Bottle, value: Json) -> None:
    bottle.copy_in(canonical(value), MARK, mode=0o644, owner="root")
