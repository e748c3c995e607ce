"""Provisioner: the shape of everything that puts a part of the manifest inside a bottle."""

from __future__ import annotations

from typing import Protocol

from bottle_fsm.bottle import Bottle
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.steps import Step, Steps


class Provisioner(Protocol):
    """Puts one part inside. Idempotent: it looks before it acts, and a second `apply` changes nothing."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:
        """Make the bottle hold what the item asks for; record digests and fingerprints, never contents.

        Raises:
            ProvisionError: it could not be put there.
            DecisionNeededError: a source changed since the plan, or a value is not available now.
        """
        ...

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look at the bottle.

        Raises:
            ProvisionError: something that the item asks for is missing or different.
        """
        ...
