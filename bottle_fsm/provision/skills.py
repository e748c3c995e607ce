"""Put skill trees where the agent's program looks for them; take away those that the manifest no longer names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.files import SAVED_DIR, STATE_DIR
from bottle_fsm.provision.notes import read_note, write_note
from bottle_fsm.provision.shell import checked
from bottle_fsm.provision.tree import Tree, read_tree, tree_inside
from bottle_fsm.steps import Step, Steps

NOTE: Final = f"{STATE_DIR}/skills.json"
"""Which skills we put there, as name → digest, and below which directory."""
_INCOMING: Final = ".bottle-incoming"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_PREPARE: Final = 'umask 077; mkdir -p "$1" && rm -rf "$1/$2"'
_SWAP: Final = """
set -e
if [ -n "$4" ] && [ -e "$1/$2" ]; then
  umask 077; mkdir -p "$4"; rm -rf "$4/$5"; mv "$1/$2" "$4/$5"
fi
rm -rf "$1/$2"
mv "$1/$3" "$1/$2"
"""
_REMOVE: Final = 'rm -rf "$1/$2"'


class SkillsProvisioner:
    """`item.inputs`: `directory` (path inside) and `skills`, each with `name`, `source` (host path) and `sha256`."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:
        """Copy each skill whose tree inside is not the planned one; remove ours that are no longer named."""
        directory, wanted = item.inputs["directory"], item.inputs["skills"]
        note = read_note(bottle, NOTE)
        ours: Json = note.get("skills", {}) if note.get("directory") == directory else {}
        changed = []
        for skill in wanted:
            steps.say(f"skill {skill['name']}")
            if self._ensure(bottle, directory, skill, last=str(ours.get(skill["name"], ""))):
                changed.append(skill["name"])
        removed = sorted(name for name in ours if name not in {s["name"] for s in wanted} and _NAME.fullmatch(name))
        for name in removed:
            checked(bottle, _REMOVE, directory, name, what=f"skill {name}")
        digests = {skill["name"]: skill["sha256"] for skill in wanted}
        write_note(bottle, NOTE, {"directory": directory, "skills": digests}, before=note)
        step.evidence("skills", {"sha256": digests, "changed": changed, "removed": removed})

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look whether every skill inside has the planned digest."""
        for skill in item.inputs["skills"]:
            self._verify_one(bottle, f"{item.inputs['directory']}/{skill['name']}", skill)

    def _ensure(self, bottle: Bottle, directory: str, skill: Json, *, last: str) -> bool:
        name, target = skill["name"], f"{directory}/{skill['name']}"
        found = tree_inside(bottle, target)
        if found is not None and found.digest == skill["sha256"]:
            return False
        _unchanged_source(skill)
        checked(bottle, _PREPARE, directory, _INCOMING, what=f"skill {name}")
        bottle.copy_in(Path(skill["source"]), f"{directory}/{_INCOMING}", owner="agent")
        # the digest of what arrived decides: the source may have changed between the look above and the copy
        self._verify_one(bottle, f"{directory}/{_INCOMING}", skill)
        edited = found is not None and found.digest != last
        saved = SAVED_DIR if edited else ""
        checked(bottle, _SWAP, directory, name, _INCOMING, saved, _saved_name(name, found), what=f"skill {name}")
        return True

    @staticmethod
    def _verify_one(bottle: Bottle, path: str, skill: Json) -> None:
        found = tree_inside(bottle, path)
        if found is None or found.digest != skill["sha256"]:
            problem = "is not there" if found is None else "holds something else than planned"
            raise ProvisionError(f"{path} {problem}", place=f"skill {skill['name']}")


def _saved_name(name: str, found: Tree | None) -> str:
    return name if found is None else f"{name}.{found.digest[:8]}"


def _unchanged_source(skill: Json) -> None:
    source = Path(skill["source"])
    if not source.is_dir():
        raise DecisionNeededError(
            f"the skill {skill['name']} is no longer at {source}", place="skills", hint="Restore it, or plan again"
        )
    if read_tree(source).digest != skill["sha256"]:
        raise DecisionNeededError(
            f"the skill {skill['name']} at {source} changed since the plan was made",
            place="skills",
            hint="Run `bottle-fsm apply` with the manifest to plan again, or restore the skill",
        )
