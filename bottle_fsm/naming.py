"""Slugs, object names and labels. Nobody else builds one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

MAX_NAME: Final = 63
PREFIX: Final = "claude-bottle-"
LABEL_ROOT: Final = "bottle-fsm.root"
LABEL_BOTTLE: Final = "bottle-fsm.bottle"
LABEL_LAUNCH: Final = "bottle-fsm.launch"
LABEL_ROLE: Final = "bottle-fsm.role"
LABEL_STEP: Final = "bottle-fsm.step"
LABEL_SPEC: Final = "bottle-fsm.spec"
LABEL_EPOCH: Final = "bottle-fsm.epoch"

_DIGEST = 8
_LONGEST_INFIX = len("pipelock-")
_MAX_STEM = MAX_NAME - len(PREFIX) - _LONGEST_INFIX - _DIGEST - 1

ROLE_GUARD: Final = "guard"
ROLE_INTERCEPTOR: Final = "interceptor"
ROLE_AGENT: Final = "agent"
ROLE_NET_INSIDE: Final = "net-inside"
ROLE_NET_BETWEEN: Final = "net-between"
ROLE_NET_OUTSIDE: Final = "net-outside"
ROLE_VOLUME: Final = "volume"

_INFIX: Final = {
    ROLE_AGENT: "",
    ROLE_INTERCEPTOR: "mitm-",
    ROLE_GUARD: "pipelock-",
    ROLE_NET_INSIDE: "net-",
    ROLE_NET_BETWEEN: "between-",
    ROLE_NET_OUTSIDE: "egress-",
}


def bottle_name(project: str, agent: str) -> str:
    """Return the name by which people call a bottle: `<project>/<agent>`."""
    return f"{project}/{agent}"


def slug(root_id: str, project: str, agent: str) -> str:
    """Return the part of object names that is unique to one bottle of one state root.

    Lower-case letters, digits and hyphens: the agent's name, cut if long, and a short digest of state root, project
    and agent, so that two state roots or projects on one engine never want the same name.
    """
    stem = re.sub(r"[^a-z0-9]+", "-", agent.lower()).strip("-")[:_MAX_STEM].rstrip("-") or "agent"
    digest = hashlib.sha256(f"{root_id}\0{project}\0{agent}".encode()).hexdigest()[:_DIGEST]
    return f"{stem}-{digest}"


def object_name(role: str, bottle_slug: str, suffix: str = "") -> str:
    """Return the engine's name of the object that plays `role`, at most 63 characters; `suffix` tells volumes apart."""
    if role == ROLE_VOLUME:
        return f"{PREFIX}vol-{bottle_slug}-{suffix}"[:MAX_NAME]
    return f"{PREFIX}{_INFIX[role]}{bottle_slug}"


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels that every object of ours carries; the world is found by them, never by name alone."""

    root: str
    bottle: str
    launch: str
    role: str
    step: str
    spec: str
    epoch: int

    def as_dict(self) -> dict[str, str]:
        """Return the labels as the engine takes them: a mapping of texts."""
        return {
            LABEL_ROOT: self.root,
            LABEL_BOTTLE: self.bottle,
            LABEL_LAUNCH: self.launch,
            LABEL_ROLE: self.role,
            LABEL_STEP: self.step,
            LABEL_SPEC: self.spec,
            LABEL_EPOCH: str(self.epoch),
        }

    @classmethod
    def of(cls, labels: dict[str, str]) -> Labels | None:
        """Read labels back from an object; None when the object is not ours or its labels are incomplete."""
        try:
            return cls(
                root=labels[LABEL_ROOT],
                bottle=labels[LABEL_BOTTLE],
                launch=labels[LABEL_LAUNCH],
                role=labels[LABEL_ROLE],
                step=labels[LABEL_STEP],
                spec=labels[LABEL_SPEC],
                epoch=int(labels[LABEL_EPOCH]),
            )
        except (KeyError, ValueError):
            return None
