"""What a bottle's rules put into requests, as a plan holds it: names and templates, never values. Pure.

An agent finds a placeholder in each variable whose host value is injected, unless the manifest gives the variable
itself. Not its duty: the values, which are fetched when they are delivered to the interceptor.
"""

from __future__ import annotations

from collections.abc import Iterator

from bottle_fsm.egress.injection import placeholder
from bottle_fsm.manifest import template
from bottle_fsm.manifest.reach import Reach
from bottle_fsm.model import Json


def injections(bottle: str, reach: Reach) -> Iterator[Json]:
    """Yield `rule` (its name), `kind`, `name`, `template`, and `held`: host variable → placeholder; sorted by rule."""
    for rule in sorted(reach.egress.allow, key=lambda rule: (rule.host, rule.port)):
        for one in rule.inject or ():
            yield {
                "rule": f"https://{rule.host}:{rule.port}",
                "kind": one.kind,
                "name": one.name,
                "template": one.template,
                "held": {v.name: _placeholder(bottle, v.name) for v in template.variables(one.template)},
            }


def placeholders(bottle: str, reach: Reach) -> dict[str, str]:
    """Return the agent's variables that hold a placeholder; one that the manifest gives is left as it says."""
    held = {name: mark for one in injections(bottle, reach) for name, mark in one["held"].items()}
    return {name: mark for name, mark in sorted(held.items()) if name not in reach.env}


def _placeholder(bottle: str, variable: str) -> str:
    # Not of one launch: the plan of a bottle is equal for equal manifests.
    return placeholder(bottle, "", variable)
