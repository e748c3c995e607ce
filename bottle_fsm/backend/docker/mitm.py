"""The interceptor on an engine: its files, its tokens on tmpfs, and the certificate of the CA that it made.

Not its duty: making the agent trust that certificate (`provision.ca`).
"""

from __future__ import annotations

from typing import Final

from bottle_fsm import naming
from bottle_fsm.archive import Member
from bottle_fsm.backend import delivery
from bottle_fsm.backend.docker.archive_files import read_members
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.containers import Container
from bottle_fsm.backend.docker.drift import health_of
from bottle_fsm.backend.docker.joining import placeholders
from bottle_fsm.backend.docker.plan import MitmproxyProxyPlan
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.backend.trust import record_ca
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import DriftError
from bottle_fsm.plan.build import launch_policy

_OPEN: Final = 0o444


class MitmProxy(Container):
    """Starts, observes and stops the interceptor."""

    ROLE = naming.ROLE_INTERCEPTOR

    def plan(self, work: Work) -> MitmproxyProxyPlan:
        """Return the interceptor's part of the plan."""
        return work.plan.mitmproxy_plan

    def members(self, work: Work) -> dict[str, Member]:
        """Return the directory of its configuration, and the one in which it makes its CA."""
        uid, _, gid = self.plan(work).user.partition(":")
        return {
            egress_files.CONFIG_DIR: Member(None, 0o755),
            egress_files.STATE_DIR: Member(None, 0o700, int(uid), int(gid)),
        }

    def files(self, work: Work) -> dict[str, Member]:
        """Return its configuration, the manifest of digests last. The guard's address comes by environment."""
        contents = egress_files.interceptor_files(
            launch_policy(work.plan.policy, bottle=work.plan.bottle, launch=work.launch.launch),
            listen=placeholders(work.steps.facts)["interceptor"],
            guard=None,
            upstream_ca="".join(self.plan(work).upstream_ca).encode(),
        )
        return {path: Member(content, _OPEN) for path, content in egress_files.seal(contents).items()}

    def deliver(self, work: Work, container_id: str) -> None:
        """Bring its tokens to its tmpfs; until they are there it refuses everything."""
        plan = self.plan(work)
        content = delivery.for_interceptor(work.plan, work.steps)
        with work.steps.act(f"deliver secrets to {self.ROLE}", cause="they live on tmpfs only", role=self.ROLE):
            door = DockerBottle(work.engine, container_id, name=plan.name, users={"agent": plan.user, "root": "0:0"})
            door.copy_in(content, egress_files.INTERCEPTOR_SECRETS, mode=0o600)

    def check_guard(self, work: Work, container_id: str) -> None:
        """See that it reaches the guard, by its own word.

        Raises:
            DriftError: it does not.
        """
        if health_of(work.engine, work.plan, container_id).get("guard") != "ok":
            raise DriftError("does not reach the guard", place=self.plan(work).name)

    def record_ca(self, work: Work, container_id: str) -> bytes:
        """Read the CA's certificate, record its fingerprint if it is new, and return it as PEM."""
        pem = self.certificate(work, container_id)
        record_ca(pem, work.steps)
        return pem

    def certificate(self, work: Work, container_id: str) -> bytes:
        """Return the CA's certificate by its exact path; the key beside it is never read."""
        name = self.plan(work).name
        found = read_members(work.engine, container_id, egress_files.CA_CERT, name=name)
        if egress_files.CA_CERT not in found:
            raise DriftError("has no certificate of its CA", place=name)
        return found[egress_files.CA_CERT]
