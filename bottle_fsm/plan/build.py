"""The part of a plan that every backend shares. Pure: what this host was asked comes in as `HostSources`.

Not its duty: objects and addresses (each backend's `resolve_plan`), reading the host (`provision.sources`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.egress.policy import HTTPS_PORT, EgressPolicy, compile_policy
from bottle_fsm.errors import DefinitionError, Problem, ValidationError
from bottle_fsm.manifest.env import ResolvedEnv
from bottle_fsm.manifest.model import Agent
from bottle_fsm.manifest.reach import Reach
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Json
from bottle_fsm.places import WORKSPACE
from bottle_fsm.plan.bottle_plan import ProvisionItem, digest
from bottle_fsm.plan.injections import injections, placeholders
from bottle_fsm.plan.providers import PROVIDERS, Provider
from bottle_fsm.plan.rules import allow_entries

_NAMED: Final = 8
"""How many likely secrets a warning names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class HostSources:
    """What `provision.sources.read_sources(spec, host)` found on this host. Digests, counts and names, never contents.

    Attributes:
        env: the agent's variables, resolved: literals with their values, secrets by name.
        skills: for each skill `name`, `source` (host path), `sha256`, `files`, `bytes`.
        identities: manifest text of an identity file → absolute host path.
        workspace: `source` (host path), `kind`, `files`, `bytes`; empty when the workspace is not filled from here.
        suspects: files of the workspace that look like secrets.
    """

    env: ResolvedEnv = field(default_factory=lambda: ResolvedEnv({}, {}))
    skills: tuple[Json, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)
    workspace: Json = field(default_factory=dict)
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommonParts:
    """The fields of a `BottlePlan` that are equal for every backend, under the same names, and the agent's command."""

    spec: str
    policy: Json
    env: Mapping[str, str]
    secrets: Mapping[str, tuple[str, ...]]
    injections: tuple[Json, ...]
    provision: tuple[ProvisionItem, ...]
    warnings: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def delivered(self) -> str:
        """Return a digest of what the interceptor is told beside its files: where secrets may go, what is injected."""
        return digest({"secrets": {n: list(to) for n, to in self.secrets.items()}, "injections": list(self.injections)})


def common_parts(spec: BottleSpec, sources: HostSources) -> CommonParts:
    """Return the shared part of the plan for a spec that was validated.

    Raises:
        ValidationError: its rules make no policy.
    """
    agent, reach = spec.agent_model, spec.reach
    if agent is None or reach is None:
        raise DefinitionError("a spec is planned that was not validated", place=spec.bottle)
    provider = PROVIDERS[agent.provider]
    policy = _policy(reach, provider)
    try:
        launch_policy(policy, bottle=spec.bottle, launch="plan")
    except ValueError as error:
        place = f"{spec.manifest_path} bottles/{agent.bottle}/egress"
        raise ValidationError([Problem(place, str(error), "Correct the rules under `allow`")]) from error
    return CommonParts(
        spec=spec.digest,
        policy=policy,
        env={**provider.env, **placeholders(spec.bottle, reach), **sources.env.literals},
        secrets={name: secret.to for name, secret in sorted(sources.env.secrets.items())},
        injections=tuple(injections(spec.bottle, reach)),
        provision=_items(agent, reach, provider, sources),
        warnings=_warnings(reach, provider, sources),
        command=agent_command(agent),
    )


def agent_command(agent: Agent) -> tuple[str, ...]:
    """Return what `attach` runs: the manifest's command as it stands, or the provider's own with its flags."""
    provider = PROVIDERS[agent.provider]
    return agent.command or (*provider.command, *provider.flags)


def launch_policy(policy: Json, *, bottle: str, launch: str) -> EgressPolicy:
    """Return the policy that one launch's sidecars get, from `BottlePlan.policy`, which knows of no launch.

    Plans of older launches, whose `allow` is a list of host and port, are read, too.

    Raises:
        ValueError: see `compile_policy`.
    """
    return compile_policy(
        bottle=bottle,
        launch=launch,
        allow=policy["allow"],
        ssh=[(host, port) for host, port in policy["ssh"]],
        hosts=policy["hosts"],
        model_host=policy.get("model_host", ""),
    )


def _policy(reach: Reach, provider: Provider) -> Json:
    """Return `compile_policy`'s arguments: `allow` in long form, `ssh` as host and port, `hosts` as name → address."""
    return {
        "allow": allow_entries(reach, provider),
        "ssh": [list(pair) for pair in sorted((entry.host, entry.port) for entry in reach.ssh)],
        "hosts": dict(sorted(reach.egress.hosts.items())),
        "model_host": provider.hosts[0] if provider.hosts else "",
    }


def _items(agent: Agent, reach: Reach, provider: Provider, sources: HostSources) -> tuple[ProvisionItem, ...]:
    prompt = {"target": provider.prompt, "text": agent.prompt}
    skills = {"directory": provider.skills, "skills": list(sources.skills)}
    ssh = {"hosts": [_ssh_host(entry.model_dump(mode="json"), sources) for entry in reach.ssh]}
    git = {
        "mode": agent.workspace.mode,
        "target": WORKSPACE,
        **sources.workspace,
        "user": agent.git.user.model_dump(mode="json") if agent.git else {},
    }
    return (
        _item("prompt", prompt, asked=bool(agent.prompt), reason="the manifest has no prompt"),
        _item("skills", skills, asked=bool(agent.skills), reason="the manifest names no skills"),
        _item("ssh", ssh, asked=bool(reach.ssh), reason="the manifest names no ssh hosts"),
        _item(
            "git",
            git,
            asked=agent.workspace.mode != "none" or agent.git is not None,
            reason="the manifest has neither a workspace nor a git identity",
        ),
    )


def _item(name: str, inputs: Json, *, asked: bool, reason: str) -> ProvisionItem:
    return ProvisionItem(name, asked=True, inputs=inputs) if asked else ProvisionItem(name, asked=False, reason=reason)


def _ssh_host(entry: Json, sources: HostSources) -> Json:
    return {**entry, "identity_file": sources.identities.get(entry["identity_file"], entry["identity_file"])}


def _warnings(reach: Reach, provider: Provider, sources: HostSources) -> tuple[str, ...]:
    warnings = list(sources.env.warnings)
    own = {rule.host for rule in reach.egress.allow if rule.port == HTTPS_PORT}
    unasked = [host for host in provider.hosts if host not in own]
    if unasked:
        warnings.append(f"allowed without being asked for, as provider {provider.name} needs it: {', '.join(unasked)}")
    warnings += [
        f"{entry.host}:{entry.port} is reachable by ssh with any key, and bytes in that tunnel are not looked at"
        for entry in reach.ssh
    ]
    if sources.suspects:
        named = ", ".join(sources.suspects[:_NAMED])
        more = f" and {len(sources.suspects) - _NAMED} more" if len(sources.suspects) > _NAMED else ""
        warnings.append(f"the workspace holds what looks like secrets, and the agent will see it: {named}{more}")
    return tuple(warnings)
