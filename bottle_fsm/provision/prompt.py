"""Put the agent's standing instructions where its program looks for them: mode 0600, its own."""

from __future__ import annotations

from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision.files import STATE_DIR, ensure, require, sha256
from bottle_fsm.provision.notes import read_note, write_note
from bottle_fsm.steps import Step, Steps

MODE: Final = 0o600
NOTE: Final = f"{STATE_DIR}/prompt.json"


class PromptProvisioner:
    """`item.inputs`: `target` (path inside) and `text`."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:  # noqa: ARG002 - protocol
        """Write the prompt unless it is there; what the agent added to it is saved beside, never lost."""
        target, content = item.inputs["target"], item.inputs["text"].encode()
        last = read_note(bottle, NOTE).get("sha256", "unknown")
        changed = ensure(bottle, target, content, mode=MODE, what="prompt", last=last)
        write_note(bottle, NOTE, {"target": target, "sha256": sha256(content)})
        step.evidence("prompt", {"target": target, "sha256": sha256(content), "changed": changed})

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look whether the prompt is there as planned."""
        require(bottle, item.inputs["target"], item.inputs["text"].encode(), mode=MODE, what="prompt")
