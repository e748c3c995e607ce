"""The machine as a Mermaid picture, drawn from the same definition that runs."""

from __future__ import annotations

from bottle_fsm.machine.definition import Definition


def mermaid(definition: Definition) -> str:
    """Return a Mermaid state diagram: the way up, the repair edges, and the way down."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {definition.initial}"]
    for transition in definition.transitions:
        lines += [f"    {source} --> {transition.dest}: {transition.trigger}" for source in transition.source]
    lines.append(f"    {definition.final} --> [*]")
    return "\n".join(lines) + "\n"
