"""Read what planning must know of this host: variables, skill trees, key paths, the workspace. Looks only.

What it returns holds digests, counts and names; contents stay where they are.
"""

from __future__ import annotations

from bottle_fsm.errors import DefinitionError, Problem, ProvisionError, ValidationError
from bottle_fsm.manifest.env import resolve_env
from bottle_fsm.manifest.hostpaths import host_path, skill_source
from bottle_fsm.manifest.model import Agent
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json
from bottle_fsm.plan.build import HostSources
from bottle_fsm.provision.tree import read_tree
from bottle_fsm.provision.workspace import survey


def read_sources(spec: BottleSpec, host: Host) -> HostSources:
    """Read the sources that a validated spec names.

    Raises:
        ValidationError: one cannot be read, or holds what may not be copied (a link that leaves a skill's tree).
    """
    agent, reach = spec.agent_model, spec.reach
    if agent is None or reach is None:
        raise DefinitionError("sources are read for a spec that was not validated", place=spec.bottle)
    problems: list[Problem] = []
    skills = _skills(spec, agent, host, problems)
    workspace, suspects = _workspace(spec, agent, host, problems)
    if problems:
        raise ValidationError(problems)
    return HostSources(
        env=resolve_env(reach, host.environ),
        skills=skills,
        identities={e.identity_file: str(host_path(e.identity_file, spec, host.home)) for e in reach.ssh},
        workspace=workspace,
        suspects=suspects,
    )


def _skills(spec: BottleSpec, agent: Agent, host: Host, problems: list[Problem]) -> tuple[Json, ...]:
    found: list[Json] = []
    for index, name in enumerate(agent.skills):
        source = skill_source(name, spec, host.home)
        try:
            tree = read_tree(source)
            if not tree.entries:
                raise ProvisionError("holds no file", place=str(source))  # noqa: TRY301 - one way for all problems
        except ProvisionError as error:
            problems.append(_problem(spec, f"skills/{index}", error))
            continue
        counted = {"files": len(tree.entries), "bytes": tree.size}
        found.append({"name": source.name, "source": str(source), "sha256": tree.digest, **counted})
    return tuple(found)


def _workspace(spec: BottleSpec, agent: Agent, host: Host, problems: list[Problem]) -> tuple[Json, tuple[str, ...]]:
    if agent.workspace.mode == "none":
        return {}, ()
    source = host_path(agent.workspace.source, spec, host.home)
    try:
        found = survey(source)
    except ProvisionError as error:
        problems.append(_problem(spec, "workspace/source", error))
        return {}, ()
    counted = {"kind": found.kind, "files": len(found.files), "bytes": found.size}
    return {"source": str(source), **counted}, found.suspects


def _problem(spec: BottleSpec, key: str, error: ProvisionError) -> Problem:
    place = f"{spec.manifest_path} agents/{spec.agent}/{key}"
    where = f"{error.place}: " if error.place else ""
    return Problem(place, f"{where}{error.problem}", error.hint or "")
