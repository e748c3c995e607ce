"""What is in the directory of each object before its first start: files, and the complete command of its sandbox.

An object is filled aside and moved into place whole (`world.create`), so a launcher killed here leaves nothing that
could be taken for one. Not its duty: starting it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm import naming, resources
from bottle_fsm.backend.local import cgroup, first, seccomp
from bottle_fsm.backend.local.confine import Identity, Stages, identity
from bottle_fsm.backend.local.etc import BOUND, HOST, fill_etc
from bottle_fsm.backend.local.places import CODE, DOOR, GUARD_DOOR, LOOPBACK, VENV
from bottle_fsm.backend.local.plan import LocalBottlePlan, SandboxPlan
from bottle_fsm.backend.local.resolve import PATH
from bottle_fsm.backend.local.sandbox import ROOTS_PLACES, SCRATCH_BYTES, Bind, Sandbox, argv, system_links, variables
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError
from bottle_fsm.model import Json, Launch
from bottle_fsm.places import AGENT_GID, AGENT_HOME, AGENT_UID, WORKSPACE
from bottle_fsm.plan.build import launch_policy
from bottle_fsm.steps import Steps

SOCKETS: Final = "sockets"
"""In a door's directory: what is bound into the two sandboxes."""
SIDECAR_UID: Final = 65532
_SKELETON: Final = Path("/etc/skel")


@dataclass(frozen=True)
class Builder:
    """What every sandbox of one launch is filled from."""

    plan: LocalBottlePlan
    launch: Launch
    steps: Steps
    venv: Path
    folder: Path

    def fill_door(self, new: Path, final: Path) -> Json:
        """Make a door's directory of sockets; whoever listens there owns it."""
        del final
        sockets = new / SOCKETS
        sockets.mkdir(mode=0o755)
        return {}

    def fill(self, box: SandboxPlan, new: Path, final: Path) -> Json:
        """Fill a sandbox's directory and return what its `object.json` adds."""
        who = identity(box.role)
        stages = Stages(who)
        hostname = f"bottle-{box.role}"
        is_agent = box.role == naming.ROLE_AGENT
        fill_etc(new / "etc", hostname=hostname, network=box.network, agent=is_agent)
        (new / "seccomp.bpf").write_bytes(seccomp.program())
        (new / "variables").write_bytes(variables(self._environment(box)))
        binds = [Bind(stages.seen(first.SOURCE), first.TARGET)]
        if is_agent:
            binds += self._agent(box, new, final, stages)
            uid, gid, python = AGENT_UID, AGENT_GID, "/usr/bin/python3"
        else:
            binds += self._sidecar(box, new, final, stages, who)
            uid, gid, python = SIDECAR_UID, SIDECAR_UID, f"{VENV}/bin/python"
        etc, scratch = stages.seen(final / "etc"), box.memory or SCRATCH_BYTES
        shape = Sandbox(hostname, uid, gid, etc, tuple(binds), network=box.network, scratch=scratch)
        program = first.words(
            python,
            main=[word.replace("{python}", python) for word in box.argv],
            bridges=[{"listen": here, "to": there} for here, there in box.bridges],
            limits=box.limits,
        )
        who.own(new / "etc")
        where = cgroup.parent() if is_agent else None
        return {
            "command": list(stages.wrap((*argv(shape, links=system_links()), *program))),
            "maintenance": self._maintenance(box, shape, stages),
            "env": self._environment(box),
            "python": python,
            "workdir": WORKSPACE if is_agent else "/",
            "cgroup": str(where / box.name) if where else "",
            "cgroup_settings": cgroup.settings(box.memory, box.cpus, box.limits["nproc"]) if where else {},
        }

    def _environment(self, box: SandboxPlan) -> dict[str, str]:
        if box.role == naming.ROLE_AGENT:
            return dict(box.env)
        own = {"PATH": PATH, "HOME": "/run/bottle", "PYTHONPATH": CODE, "PYTHONDONTWRITEBYTECODE": "1"}
        return {**own, "LANG": "C.UTF-8", **box.env}

    def _maintenance(self, box: SandboxPlan, shape: Sandbox, stages: Stages) -> list[str]:
        if box.role != naming.ROLE_AGENT:
            return []
        binds = tuple(
            Bind(bind.source, bind.target, writable=True) if bind.target in ROOTS_PLACES.values() else bind
            for bind in shape.binds
        )
        changed = Sandbox(shape.hostname, 0, 0, shape.etc, binds, maintenance=True)
        return list(stages.wrap(argv(changed, links=system_links())))

    # -- the agent ---------------------------------------------------------------------------------------------------

    def _agent(self, box: SandboxPlan, new: Path, final: Path, stages: Stages) -> list[Bind]:
        who = identity(box.role)
        for name in ("home", "workspace", *ROOTS_PLACES):
            (new / name).mkdir(mode=0o755)
        for item in _SKELETON.iterdir() if _SKELETON.is_dir() else ():
            if item.is_file():
                (new / "home" / item.name).write_bytes(item.read_bytes())
        who.own(*(new / name for name in ("home", "workspace", *ROOTS_PLACES)))
        workspace = box.bind or final / "workspace"
        return [
            Bind(stages.seen(final / "home"), AGENT_HOME, writable=True),
            Bind(stages.seen(workspace), WORKSPACE, writable=True),
            *(Bind(stages.seen(final / name), target) for name, target in ROOTS_PLACES.items()),
            Bind(stages.seen(self._door(naming.ROLE_NET_INSIDE)), DOOR),
            *(Bind(str(path), str(path)) for path in (HOST / name for name in BOUND) if path.is_dir()),
        ]

    # -- the sidecars ------------------------------------------------------------------------------------------------

    def _sidecar(self, box: SandboxPlan, new: Path, final: Path, stages: Stages, who: Identity) -> list[Bind]:
        for path, content in egress_files.seal(self._files(box)).items():
            target = new / "etc" / Path(path).relative_to("/etc")
            target.parent.mkdir(mode=0o755, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o400 if path in egress_files.SECRET_PATHS else 0o444)
        package = resources.PACKAGE
        binds = [
            Bind(stages.seen(package), f"{CODE}/bottle_fsm"),
            Bind(stages.seen(self.venv), VENV),
        ]
        base = Path(sys.base_prefix).resolve()
        if not base.is_relative_to("/usr"):
            binds.append(Bind(stages.seen(base), str(base)))
        between, inside = self._door(naming.ROLE_NET_BETWEEN), self._door(naming.ROLE_NET_INSIDE)
        if box.role == naming.ROLE_GUARD:
            who.own(between)
            return [*binds, Bind(stages.seen(between), GUARD_DOOR, writable=True)]
        (new / "state").mkdir(mode=0o700)
        who.own(new / "state", inside)
        return [
            *binds,
            Bind(stages.seen(between), GUARD_DOOR),
            Bind(stages.seen(inside), DOOR, writable=True),
            Bind(stages.seen(final / "state"), egress_files.STATE_DIR, writable=True),
        ]

    def _files(self, box: SandboxPlan) -> dict[str, bytes]:
        policy = launch_policy(self.plan.policy, bottle=self.plan.bottle, launch=self.launch.launch)
        if box.role == naming.ROLE_GUARD:
            return egress_files.guard_files(
                "builtin",
                policy,
                listen=GUARD_DOOR,
                scan_token=self.steps.token("scan"),
                proxy_token=self.steps.token("proxy"),
            )
        authorities = "".join(self.plan.upstream_ca).encode()
        return egress_files.interceptor_files(policy, listen=LOOPBACK, guard=None, upstream_ca=authorities)

    def _door(self, role: str) -> Path:
        path = self.folder / naming.object_name(role, self.plan.slug) / SOCKETS
        if not path.is_dir():
            raise BackendError("the directory of its sockets is gone", place=path.parent.name)
        return path
