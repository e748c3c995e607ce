"""The provider table: where an agent program looks for its prompt and skills, and which hosts it cannot do without.

docs/providers.md shows the same table; a test keeps the two equal. It stands beside the plan, not in `provision`,
because the plan decides with it and imports go one way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bottle_fsm.places import AGENT_HOME


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of one kind of agent program.

    Attributes:
        name: as `provider:` in the manifest writes it.
        prompt: absolute path inside of the file that it reads its standing instructions from.
        skills: absolute directory inside; each skill is a directory below it.
        hosts: hosts that it needs for itself, allowed without being asked for. The first one is its model's.
        command: what `attach` runs when the manifest names no command.
        flags: what makes it work unattended; the bottle is the sandbox, so its own questions add nothing. They are
            added to `command` only, never to one that the manifest spells out.
        env: variables that quieten what the bottle refuses anyway (updates, telemetry).
    """

    name: str
    prompt: str
    skills: str
    hosts: tuple[str, ...]
    command: tuple[str, ...]
    flags: tuple[str, ...]
    env: Mapping[str, str]


CLAUDE: Final = Provider(
    name="claude",
    prompt=f"{AGENT_HOME}/.claude/CLAUDE.md",
    skills=f"{AGENT_HOME}/.claude/skills",
    hosts=("api.anthropic.com", "platform.claude.com"),
    command=("claude",),
    flags=("--dangerously-skip-permissions",),
    env=MappingProxyType({"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}),
)

CODEX: Final = Provider(
    name="codex",
    prompt=f"{AGENT_HOME}/.codex/AGENTS.md",
    skills=f"{AGENT_HOME}/.agents/skills",
    hosts=("api.openai.com", "auth.openai.com", "chatgpt.com"),
    command=("codex",),
    flags=("--dangerously-bypass-approvals-and-sandbox",),
    env=MappingProxyType({}),
)

COMMAND: Final = Provider(
    name="command",
    prompt=f"{AGENT_HOME}/.bottle/prompt.md",
    skills=f"{AGENT_HOME}/.bottle/skills",
    hosts=(),
    command=("/bin/sh", "-l"),
    flags=(),
    env=MappingProxyType({}),
)

PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType({p.name: p for p in (CLAUDE, CODEX, COMMAND)})
