"""Put the agent's standing instructions where its program looks for them: mode 0600, its own."""

from __future__ import annotations

from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.files import STATE_DIR, Seen, Wanted, look, put, require, save
from bottle_fsm.provision.notes import read_note, write_note
from bottle_fsm.steps import Step, Steps

WHAT: Final = "prompt"
NOTE: Final = f"{STATE_DIR}/prompt.json"
"""`{"sha256": digest of the text as we left it}`"""
_MODE: Final = 0o600


class PromptProvisioner:
    """`item.inputs`: `target` (path inside) and `text`."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:  # noqa: ARG002 - protocol
        """Write the prompt unless it is there; what the agent added to it is saved beside, never lost."""
        wanted = _wanted(item)
        seen = look(bottle, [wanted], what=WHAT)
        changed = not seen[wanted.path].matches(wanted)
        if changed:
            self._replace(bottle, wanted, seen[wanted.path])
        step.evidence(WHAT, {"target": wanted.path, "sha256": wanted.digest, "changed": changed})

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look whether the prompt is there as planned."""
        require(bottle, [_wanted(item)], what=WHAT)

    @staticmethod
    def _replace(bottle: Bottle, wanted: Wanted, seen: Seen) -> None:
        note = read_note(bottle, NOTE)
        if seen.present and seen.digest not in {note.get("sha256"), wanted.digest}:
            save(bottle, wanted.path, seen, what=WHAT)
        # noted first: killed in between, the old text counts as the agent's and is saved, which loses nothing
        write_note(bottle, NOTE, {"sha256": wanted.digest}, before=note)
        put(bottle, [wanted], {wanted.path: seen})


def _wanted(item: ProvisionItem) -> Wanted:
    return Wanted(item.inputs["target"], item.inputs["text"].encode(), _MODE)
