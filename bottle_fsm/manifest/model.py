"""The manifest: what the user wants. Frozen models, no I/O.

Not its duty: reading files and wording problems (`load`), and looking at this host (`env`, `hostcheck`).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from bottle_fsm.manifest import hosts, names
from bottle_fsm.manifest.inject import Inject
from bottle_fsm.manifest.reach import Egress, EnvValue, HostPath, Reach, Resources, Rule, SshHost
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.manifest.strict import Strict, Text

__all__ = [
    "Agent",
    "Backend",
    "Egress",
    "EnvValue",
    "Git",
    "GitUser",
    "Inject",
    "Manifest",
    "Networks",
    "Provider",
    "Reach",
    "Resources",
    "Rule",
    "SshHost",
    "Workspace",
]

Backend = Literal["auto", "docker", "local", "fake"]
Provider = Literal["claude", "codex", "command"]
Name = Annotated[Text, AfterValidator(names.check_name)]


class Workspace(Strict):
    """The files that the agent works on, at `/workspace` inside."""

    source: Annotated[HostPath, Field(description="a directory on this host; relative to the manifest")] = "."
    mode: Annotated[
        Literal["none", "copy", "bind"],
        Field(
            description="`copy`: tracked and unignored files; `bind`: the directory itself, on local engines only; "
            "`none`: an empty directory"
        ),
    ] = "copy"


class GitUser(Strict):
    """The identity that the agent's commits carry."""

    name: Annotated[Annotated[Text, AfterValidator(names.check_one_line)], Field(description="the name")]
    email: Annotated[Annotated[Text, AfterValidator(names.check_one_line)], Field(description="the address")]


class Git(Strict):
    """The agent's git configuration."""

    user: Annotated[GitUser, Field(description="the identity that commits carry")]


class Agent(Strict):
    """Who runs in which bottle, and with what. Each agent is one bottle instance, `<project>/<agent>`."""

    bottle: Annotated[Name, Field(description="the reach, a key of `bottles`")]
    provider: Annotated[Provider, Field(description="decides where prompt and skills go, default hosts and flags")] = (
        "command"
    )
    command: Annotated[
        tuple[Text, ...], Field(description="what `attach` runs, with a terminal; default: the provider's")
    ] = ()
    skills: Annotated[
        tuple[Annotated[Text, AfterValidator(names.check_skill)], ...],
        Field(description="names under `~/.claude/skills`, or paths relative to the manifest"),
    ] = ()
    prompt: Annotated[Text, Field(description="the agent's instructions")] = ""
    workspace: Annotated[Workspace, Field(description="the files to work on; default: an empty directory")] = Workspace(
        mode="none"
    )
    git: Annotated[Git | None, Field(description="git configuration")] = None

    @model_validator(mode="after")
    def _check(self) -> Agent:
        if self.command and not self.command[0]:
            raise Refusal("the first word of `command` is empty", "Name the program to run")
        return self


class Networks(Strict):
    """Where the bottles' own networks take their addresses from."""

    pool: Annotated[
        tuple[Annotated[Text, AfterValidator(hosts.check_pool)], ...],
        Field(min_length=1, description="private IPv4 networks; the subnets of the bottles are cut from them"),
    ] = ("10.213.0.0/16",)
    prefix: Annotated[
        int, Field(strict=True, ge=24, le=29, description="the size of each subnet, as prefix length")
    ] = 29

    @model_validator(mode="after")
    def _check(self) -> Networks:
        taken: list[ipaddress.IPv4Network] = []
        for network in map(ipaddress.IPv4Network, self.pool):
            if network.prefixlen > self.prefix:
                raise Refusal(f"`{network}` is smaller than one subnet of /{self.prefix}", "Give a larger network")
            if any(network.overlaps(other) for other in taken):
                raise Refusal(f"`{network}` overlaps another network of the pool", "Keep one of them")
            taken.append(network)
        return self


class Manifest(Strict):
    """One project: reaches, and the agents that run in them."""

    version: Annotated[Literal[1], Field(description="the manifest's version")]
    name: Annotated[Name, Field(description="the project; default: the file's name without its ending")]
    backend: Annotated[
        Backend, Field(description="where bottles run; `auto` picks and says why; `fake` only simulates")
    ] = "auto"
    networks: Annotated[Networks, Field(description="addresses of the bottles' own networks")] = Networks()
    bottles: Annotated[dict[Name, Reach], Field(description="reaches: what an agent in one may see and touch")]
    agents: Annotated[dict[Name, Agent], Field(description="who runs in which bottle, with what")]
