"""From a validated spec and an engine to the plan. Looks at the engine and the host; changes nothing.

Not its duty: validation, and anything that can only be chosen while acting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from bottle_fsm import naming
from bottle_fsm.backend.docker.agent import IDLE
from bottle_fsm.backend.docker.build import upstream
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.hardening import hardening_json
from bottle_fsm.backend.docker.images import image_tag, pipelock_available
from bottle_fsm.backend.docker.networks import internal_options
from bottle_fsm.backend.docker.plan import (
    AgentPlan,
    DockerBottlePlan,
    MitmproxyProxyPlan,
    NetworkPlan,
    ProxyPlan,
)
from bottle_fsm.egress import files as egress_files
from bottle_fsm.egress.interceptor_settings import GUARD_URL_VARIABLE
from bottle_fsm.errors import Problem, ValidationError
from bottle_fsm.manifest.hostpaths import host_path
from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.reach import Reach
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json
from bottle_fsm.places import (
    AGENT_GID,
    AGENT_HOME,
    AGENT_UID,
    AGENT_USER,
    GUARD_PORT,
    RUN_DIR,
    UNUSABLE_DNS,
    WORKSPACE,
)
from bottle_fsm.plan.bottle_plan import digest
from bottle_fsm.plan.build import CommonParts, common_parts
from bottle_fsm.provision.environment import agent_environment
from bottle_fsm.provision.sources import read_sources

OWN_AGENT: Final = "bottle-agent:latest"
SIDECAR_USER: Final = "65532:65532"
PIPELOCK_USER: Final = "65534:65534"
_TINI: Final = ("tini", "--")
_QUIET_DNS: Final = ("timeout:1", "attempts:1")
_NO_FORWARD: Final = {"net.ipv4.ip_forward": "0"}
_FAIL_FAST: Final = {"net.ipv4.neigh.eth0.retrans_time_ms": "200", "net.ipv4.neigh.eth0.mcast_solicit": "1"}
"""Internal networks may have a default route; nobody answers there, and this makes a try fail in 0.2 s."""
_SANDBOX: Final = "runsc"


@dataclass(frozen=True)
class Resolution:
    """Everything that the parts of one plan are made from."""

    spec: BottleSpec
    host: Host
    engine: Engine
    slug: str
    common: CommonParts
    info: Json = field(repr=False)

    @property
    def reach(self) -> Reach:
        """Return the reach; a validated spec has one."""
        reach = self.spec.reach
        if reach is None:
            raise ValidationError([Problem(self.spec.bottle, "has no reach", "Name one of `bottles:`")])
        return reach

    @property
    def manifest(self) -> Manifest:
        """Return the manifest."""
        return self.spec.manifest

    @property
    def runtime(self) -> str:
        """Return gVisor's runtime where the engine has it, else nothing: the engine's default."""
        return _SANDBOX if _SANDBOX in (self.info.get("Runtimes") or {}) else ""


def resolve(spec: BottleSpec, host: Host, engine: Engine) -> DockerBottlePlan:
    """Return the plan of a validated spec on this engine."""
    sources = read_sources(spec, host)
    with engine.guarded("ask the engine what it can do") as api:
        info: Json = api.info()
    given = Resolution(
        spec=spec,
        host=host,
        engine=engine,
        slug=naming.slug(host.root_id, spec.project, spec.agent),
        common=common_parts(spec, sources),
        info=info,
    )
    guard, reason = _choose_guard(given)
    networks = _networks(given)
    proxy, mitm, agent = _guard(given, guard), _interceptor(given), _agent(given)
    objects = [network.planned() for network in networks if not network.existing]
    return DockerBottlePlan(
        bottle=spec.bottle,
        slug=given.slug,
        backend="docker",
        spec=spec.digest,
        endpoint=engine.endpoint().to_json(),
        guard=guard,
        guard_reason=reason,
        objects=(*objects, proxy.planned(), mitm.planned(), agent.planned()),
        policy=given.common.policy,
        env=given.common.env,
        secrets=given.common.secrets,
        injections=given.common.injections,
        provision=given.common.provision,
        warnings=given.common.warnings,
        isolation=_isolation(agent),
        networks=networks,
        proxy_plan=proxy,
        mitmproxy_plan=mitm,
        agent_plan=agent,
    )


def _choose_guard(given: Resolution) -> tuple[str, str]:
    asked = given.reach.egress.guard
    if asked != "auto":
        return asked, "the manifest says so"
    if pipelock_available(given.engine):
        return "pipelock", "its image is on the engine or can be pulled"
    return "builtin", f"{upstream('pipelock')} is not on the engine and cannot be pulled"


def _networks(given: Resolution) -> tuple[NetworkPlan, ...]:
    common: dict[str, Any] = {
        "pool": tuple(given.manifest.networks.pool),
        "prefix": given.manifest.networks.prefix,
        "seed": given.slug,
    }
    inner = internal_options(given.engine.api_version)

    def network(role: str, **fields: Any) -> NetworkPlan:
        return NetworkPlan(role=role, name=naming.object_name(role, given.slug), **common, **fields)

    outside = given.reach.egress.network or ""
    return (
        network(naming.ROLE_NET_INSIDE, internal=True, options=inner),
        network(naming.ROLE_NET_BETWEEN, internal=True, options=inner),
        network(naming.ROLE_NET_OUTSIDE, internal=False, options={}, existing=outside),
    )


def _tmpfs(user: str) -> dict[str, str]:
    uid, _, gid = user.partition(":")
    return {RUN_DIR: f"rw,noexec,nosuid,nodev,size=16m,mode=0700,uid={uid},gid={gid}"}


def _sidecar(given: Resolution, role: str, user: str) -> dict[str, Any]:
    return {
        "name": naming.object_name(role, given.slug),
        "user": user,
        "tmpfs": _tmpfs(user),
        "hardening": hardening_json(),
        "files": {"policy": digest(given.common.policy), "outside": given.reach.egress.network or ""},
    }


def _guard(given: Resolution, guard: str) -> ProxyPlan:
    engine: egress_files.Engine = "pipelock" if guard == "pipelock" else "builtin"
    argv = egress_files.guard_argv(engine, listen="{guard}")
    own = engine == "builtin"
    return ProxyPlan(
        **_sidecar(given, naming.ROLE_GUARD, SIDECAR_USER if own else PIPELOCK_USER),
        image=image_tag("sidecar", arch=given.engine.arch) if own else upstream("pipelock"),
        ours="sidecar" if own else "",
        entrypoint=_TINI if own else argv[:1],
        argv=argv if own else argv[1:],
        networks=(naming.ROLE_NET_BETWEEN, naming.ROLE_NET_OUTSIDE),
        sysctls=_NO_FORWARD,
        extra_hosts={} if own else dict(given.common.policy.get("hosts", {})),
        health=egress_files.guard_health_argv(engine, listen="{guard}"),
        engine=engine,
    )


def _interceptor(given: Resolution) -> MitmproxyProxyPlan:
    authorities = tuple(_read_authority(given, path) for path in given.reach.egress.upstream_ca)
    parts = _sidecar(given, naming.ROLE_INTERCEPTOR, SIDECAR_USER)
    return MitmproxyProxyPlan(
        **{**parts, "files": {**parts["files"], "delivered": given.common.delivered}},
        image=image_tag("sidecar", arch=given.engine.arch),
        ours="sidecar",
        entrypoint=_TINI,
        argv=egress_files.INTERCEPTOR_ARGV,
        networks=(naming.ROLE_NET_INSIDE, naming.ROLE_NET_BETWEEN),
        env={GUARD_URL_VARIABLE: f"http://{{guard}}:{GUARD_PORT}"},
        sysctls=_NO_FORWARD,
        dns=(UNUSABLE_DNS,),
        dns_opt=_QUIET_DNS,
        health=egress_files.INTERCEPTOR_HEALTH_ARGV,
        upstream_ca=authorities,
    )


def _read_authority(given: Resolution, text: str) -> str:
    """Return the PEM text of further roots; they are public, so the plan may hold them."""
    place = host_path(text, given.spec, given.host.home)
    try:
        return place.read_text(encoding="ascii").rstrip("\n") + "\n"
    except (OSError, UnicodeError) as error:
        problem = Problem(f"{given.spec.bottle} egress/upstream_ca", f"cannot read {place}: {error}", "Give a PEM file")
        raise ValidationError([problem]) from error


def _agent(given: Resolution) -> AgentPlan:
    reach, limits = given.reach, given.reach.resources
    user = f"{AGENT_UID}:{AGENT_GID}"
    own = reach.image == OWN_AGENT
    return AgentPlan(
        name=naming.object_name(naming.ROLE_AGENT, given.slug),
        image=image_tag("agent", arch=given.engine.arch) if own else reach.image,
        ours="agent" if own else "",
        entrypoint=("/bin/sh",),
        argv=("-c", IDLE),
        user=user,
        networks=(naming.ROLE_NET_INSIDE,),
        env={**given.common.env, **agent_environment("{interceptor}"), "HOME": AGENT_HOME, "USER": AGENT_USER},
        tmpfs=_tmpfs(user),
        sysctls={**_NO_FORWARD, **_FAIL_FAST},
        dns=(UNUSABLE_DNS,),
        dns_opt=_QUIET_DNS,
        memory=limits.memory_bytes,
        cpus=min(limits.cpus, float(given.info.get("NCPU") or limits.cpus)),
        pids=limits.pids,
        runtime=given.runtime,
        workdir=WORKSPACE,
        hardening=hardening_json(),
        command=given.common.command,
        bind=_bind(given),
    )


def _bind(given: Resolution) -> str:
    """Return the host directory that is mounted as the workspace, or nothing."""
    agent = given.spec.agent_model
    if agent is None or agent.workspace.mode != "bind":
        return ""
    return str(host_path(agent.workspace.source, given.spec, given.host.home).resolve())


def _isolation(agent: AgentPlan) -> tuple[str, ...]:
    runtime = f"runtime {agent.runtime} (gVisor)" if agent.runtime else "runtime runc (the engine has no gVisor)"
    return (
        f"user {agent.user}, all capabilities dropped, no-new-privileges",
        "own seccomp allow-list: no vsock, keyrings, io_uring, bpf, ptrace, namespaces",
        f"limits: {agent.memory >> 20} MiB memory, {agent.cpus:g} processors, {agent.pids} processes",
        runtime,
        "no engine socket, no published port, restart policy no",
        f"workspace is the host's directory {agent.bind}" if agent.bind else "no host directory is mounted",
        "network: one internal network without a way out; names are not resolved",
    )
