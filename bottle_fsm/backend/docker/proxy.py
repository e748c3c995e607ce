"""The guard on an engine: built-in or pipelock, the only container with a way out.

Not its duty: what it allows (`egress.policy`), and the two engines' configuration (`egress.files`).
"""

from __future__ import annotations

from typing import Final, cast

from bottle_fsm import naming
from bottle_fsm.archive import Member
from bottle_fsm.backend.docker.containers import Container
from bottle_fsm.backend.docker.joining import placeholders
from bottle_fsm.backend.docker.plan import ProxyPlan
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.egress import files as egress_files
from bottle_fsm.plan.build import launch_policy

_OPEN: Final = 0o444
_CLOSED: Final = 0o400


class GuardProxy(Container):
    """Starts, observes and stops the guard."""

    ROLE = naming.ROLE_GUARD

    def plan(self, work: Work) -> ProxyPlan:
        """Return the guard's part of the plan."""
        return work.plan.proxy_plan

    def members(self, work: Work) -> dict[str, Member]:
        """Return the root-owned directory of its configuration."""
        return {folder: Member(None, 0o755) for folder in {path.rpartition("/")[0] for path in self.files(work)}}

    def files(self, work: Work) -> dict[str, Member]:
        """Return its configuration, the manifest of digests last; what holds a token is for its user alone."""
        plan = self.plan(work)
        uid, _, gid = plan.user.partition(":")
        contents = egress_files.guard_files(
            cast("egress_files.Engine", plan.engine),
            launch_policy(work.plan.policy, bottle=work.plan.bottle, launch=work.launch.launch),
            listen=placeholders(work.steps.facts)["guard"],
            scan_token=work.steps.token("scan"),
            proxy_token=work.steps.token("proxy"),
        )
        return {
            path: Member(content, _CLOSED, int(uid), int(gid))
            if path in egress_files.SECRET_PATHS
            else Member(content, _OPEN)
            for path, content in egress_files.seal(contents).items()
        }
