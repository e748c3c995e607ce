"""Taking away what plays a role, whoever made it, and recording what went by itself. For every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bottle_fsm.model import Observed, Resource
from bottle_fsm.steps import Steps, removal


def remove_role(role: str, steps: Steps, *, look: Callable[[], Observed], remove: Callable[[Resource], None]) -> None:
    """Remove every object of a role, and record those that went by themselves.

    An earlier launch of this bottle may have left one under our name, by a request that arrived late: it goes, too.
    """
    found = look().of_role(role)
    for resource in found:
        remove(resource)
    known = {resource.id for resource in found}
    gone = [r for r in steps.resources() if r.role == role and r.id not in known and r.state != "absent"]
    if gone:
        with steps.act(f"note {role} is gone", cause="recorded, but not found", role=role) as step:
            for resource in gone:
                step.made(replace(resource, state="absent"))
    if not found and not gone:
        steps.skip(removal(role), reason="not found")
