"""From a validated spec and this machine to the plan. Looks at the host; changes nothing.

Not its duty: validation, and anything that can only be chosen while acting.
"""

from __future__ import annotations

import os
from typing import Final

from bottle_fsm import naming
from bottle_fsm.backend.local import cgroup
from bottle_fsm.backend.local.identity import endpoint
from bottle_fsm.backend.local.places import DOOR, GUARD_DOOR, HEALTH_SOCKET, LOOPBACK, PROXY_SOCKET, RELAY_SOCKET
from bottle_fsm.backend.local.plan import DOORS, LocalBottlePlan, SandboxPlan, door
from bottle_fsm.egress import files as egress_files
from bottle_fsm.egress.files import GUARD_SOCKET, SCAN_SOCKET
from bottle_fsm.egress.interceptor_settings import GUARD_URL_VARIABLE
from bottle_fsm.errors import Problem, ValidationError
from bottle_fsm.manifest.hostpaths import host_path
from bottle_fsm.manifest.reach import Reach
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host
from bottle_fsm.places import AGENT_HOME, AGENT_USER, GUARD_PORT, HEALTH_PORT, INTERCEPTOR_PORT, RELAY_PORT, SCAN_PORT
from bottle_fsm.plan.bottle_plan import digest
from bottle_fsm.plan.build import common_parts
from bottle_fsm.provision.environment import agent_environment
from bottle_fsm.provision.sources import read_sources

OWN_IMAGE: Final = "bottle-agent:latest"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SIDECAR_LIMITS: Final = {"nproc": 256, "nofile": 8192, "core": 0}
_PYTHON: Final = "{python}"
"""The sidecars' own interpreter, known when their environment is made."""


def resolve(spec: BottleSpec, host: Host) -> LocalBottlePlan:
    """Return the plan of a validated spec on this machine."""
    reach = _reach(spec)
    common = common_parts(spec, read_sources(spec, host))
    slug = naming.slug(host.root_id, spec.project, spec.agent)
    names = {role: naming.object_name(role, slug) for role in (*DOORS, "guard", "interceptor", "agent")}
    policy = {"policy": digest(common.policy)}
    guard = SandboxPlan(
        role=naming.ROLE_GUARD,
        name=names[naming.ROLE_GUARD],
        argv=_python(egress_files.guard_argv("builtin", listen=GUARD_DOOR)),
        limits=_SIDECAR_LIMITS,
        network=True,
        files=policy,
    )
    interceptor = SandboxPlan(
        role=naming.ROLE_INTERCEPTOR,
        name=names[naming.ROLE_INTERCEPTOR],
        argv=_python(egress_files.INTERCEPTOR_ARGV),
        bridges=(
            (f"unix:{DOOR}/{PROXY_SOCKET}", f"tcp:{LOOPBACK}:{INTERCEPTOR_PORT}"),
            (f"unix:{DOOR}/{RELAY_SOCKET}", f"tcp:{LOOPBACK}:{RELAY_PORT}"),
            (f"unix:{egress_files.STATE_DIR}/{HEALTH_SOCKET}", f"tcp:{LOOPBACK}:{HEALTH_PORT}"),
            (f"tcp:{LOOPBACK}:{GUARD_PORT}", f"unix:{GUARD_DOOR}/{GUARD_SOCKET}"),
            (f"tcp:{LOOPBACK}:{SCAN_PORT}", f"unix:{GUARD_DOOR}/{SCAN_SOCKET}"),
        ),
        env={GUARD_URL_VARIABLE: f"http://{LOOPBACK}:{GUARD_PORT}"},
        limits=_SIDECAR_LIMITS,
        files={**policy, "delivered": common.delivered},
    )
    agent = SandboxPlan(
        role=naming.ROLE_AGENT,
        name=names[naming.ROLE_AGENT],
        bridges=(
            (f"tcp:{LOOPBACK}:{INTERCEPTOR_PORT}", f"unix:{DOOR}/{PROXY_SOCKET}"),
            (f"tcp:{LOOPBACK}:{RELAY_PORT}", f"unix:{DOOR}/{RELAY_SOCKET}"),
        ),
        env={"PATH": PATH, **common.env, **agent_environment(LOOPBACK), "HOME": AGENT_HOME, "USER": AGENT_USER},
        limits={"nproc": reach.resources.pids, "nofile": 65536, "core": 0},
        bind=_bind(spec, host),
        command=common.command,
        memory=reach.resources.memory_bytes,
        cpus=reach.resources.cpus,
    )
    sandboxes = (guard, interceptor, agent)
    return LocalBottlePlan(
        bottle=spec.bottle,
        slug=slug,
        backend="local",
        spec=spec.digest,
        endpoint=endpoint(),
        guard="builtin",
        guard_reason=_guard_reason(reach),
        objects=(*(door(role, names[role]) for role in DOORS), *(box.planned() for box in sandboxes)),
        policy=common.policy,
        env=common.env,
        secrets=common.secrets,
        injections=common.injections,
        provision=common.provision,
        warnings=(*common.warnings, *_warnings(reach)),
        isolation=_isolation(reach, agent),
        sandboxes=sandboxes,
        upstream_ca=tuple(_read_authority(spec, host, path) for path in reach.egress.upstream_ca),
    )


def _reach(spec: BottleSpec) -> Reach:
    if spec.reach is None:
        raise ValidationError([Problem(spec.bottle, "has no reach", "Name one of `bottles:`")])
    return spec.reach


def _python(argv: tuple[str, ...]) -> tuple[str, ...]:
    return (_PYTHON, *argv[1:])


def _guard_reason(reach: Reach) -> str:
    if reach.egress.guard == "builtin":
        return "the manifest says so"
    return "pipelock listens on TCP, which other users of this machine could use as a tunnel"


def _bind(spec: BottleSpec, host: Host) -> str:
    agent = spec.agent_model
    if agent is None or agent.workspace.mode != "bind":
        return ""
    return str(host_path(agent.workspace.source, spec, host.home).resolve())


def _read_authority(spec: BottleSpec, host: Host, text: str) -> str:
    """Return the PEM text of further roots; they are public, so the plan may hold them."""
    place = host_path(text, spec, host.home)
    try:
        return place.read_text(encoding="ascii").rstrip("\n") + "\n"
    except (OSError, UnicodeError) as error:
        problem = Problem(f"{spec.bottle} egress/upstream_ca", f"cannot read {place}: {error}", "Give a PEM file")
        raise ValidationError([problem]) from error


def _warnings(reach: Reach) -> tuple[str, ...]:
    found = []
    if reach.image != OWN_IMAGE:
        found.append(f"the image {reach.image} is not used: the agent sees this machine's own programs")
    return tuple(found)


def _isolation(reach: Reach, agent: SandboxPlan) -> tuple[str, ...]:
    outside = "a user that nobody else has" if os.geteuid() == 0 else "your own user"
    limits = cgroup.describe(agent.memory, agent.cpus, cgroup.parent())
    return (
        f"bubblewrap sandbox; outside it is {outside}, inside uid 1000; no capabilities, no-new-privileges",
        "shares this machine's kernel: weaker than a virtual machine or gVisor",
        "own seccomp filter: no mounts, namespaces, keyrings, bpf, ptrace, io_uring, vsock, TIOCSTI",
        f"limits: {reach.resources.pids} processes; {limits}",
        f"workspace is the host's directory {agent.bind}" if agent.bind else "no host directory can be written",
        "sees /usr and a made-up /etc read-only; nothing of any home, no /run/user, no engine socket",
        "network: loopback only; the way out is a Unix socket to the interceptor",
    )


def unfit(spec: BottleSpec) -> list[Problem]:
    """Return what a spec asks for that this backend does not give."""
    reach = spec.reach
    found = []
    if reach is not None and reach.egress.guard == "pipelock":
        place = f"{spec.manifest_path} bottles/{spec.agent_model.bottle if spec.agent_model else ''}/egress/guard"
        hint = "Use `builtin` or `auto`, or the docker backend"
        found.append(Problem(place, "pipelock is not run by the local backend: it listens on TCP", hint))
    if reach is not None and reach.egress.network:
        place = f"{spec.manifest_path} egress/network"
        found.append(Problem(place, "the local backend has no networks to join", "Leave it out"))
    return found
