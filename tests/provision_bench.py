"""Real containers for the provisioning tests: an agent as hardened as the backend makes it, and its sidecars.

Guard and interceptor run in one sidecar container here: what is tested is the agent's side of the inside network.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.errors import SubnetTakenError
from bottle_fsm.backend.docker.hardening import security_options
from bottle_fsm.egress import files
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.errors import DecisionNeededError
from bottle_fsm.model import Resource
from bottle_fsm.places import AGENT_GID, AGENT_UID, RUN_DIR, UNUSABLE_DNS
from bottle_fsm.provision.environment import agent_environment
from bottle_fsm.secret import Secret

LAUNCH = "launch-of-this-test"
SCAN_TOKEN, PROXY_TOKEN = Secret("scan-token-of-a-provision-test"), Secret("proxy-token-of-a-provision-test")
SIDECAR_UID = 65532
_numbers = itertools.count()


class RecordedStep:
    """One sub-step that keeps what it was told."""

    def __init__(self) -> None:
        self.findings: dict[str, Any] = {}

    def made(self, resource: Resource) -> None:
        raise AssertionError(f"provisioning makes no objects: {resource}")

    def fact(self, name: str, value: str) -> None:
        self.findings[f"fact.{name}"] = value

    def evidence(self, name: str, value: Any) -> None:
        self.findings[name] = value


@dataclass
class RecordedSteps:
    """The runner's end, kept in memory: sub-steps by name, in order."""

    answers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    done: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    epoch: int = 1
    seconds: float = 120.0

    @contextmanager
    def act(self, name: str, *, cause: str, role: str = "") -> Iterator[RecordedStep]:
        assert cause
        step = RecordedStep()
        yield step
        self.done.append((name, step.findings))

    def skip(self, name: str, *, reason: str) -> None:
        self.skipped[name] = reason

    def evidence(self, name: str, value: Any) -> None:
        self.done.append((name, value))

    def say(self, text: str) -> None:
        assert text

    def remaining(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def secret(self, name: str) -> Secret:
        raise DecisionNeededError(f"no secret {name} here")

    def from_host(self, template: str) -> Secret:
        return Secret(template)

    def token(self, purpose: str) -> Secret:
        return Secret(f"token-{purpose}")

    def ask(self, question: str) -> Secret:
        self.asked.append(question)
        if not self.answers:
            raise DecisionNeededError("there is no terminal")
        return Secret(self.answers.pop(0))

    def consent(self, question: str, *, hint: str) -> None:
        raise DecisionNeededError(question, hint=hint)

    def resources(self) -> Sequence[Resource]:
        return ()


class Bench:
    """Networks and containers of one test module; `close` removes them all."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._stack = contextlib.ExitStack()
        self._prefix = f"provision-test-{os.getpid()}-{next(_numbers)}"

    def close(self) -> None:
        self._stack.close()

    def network(self) -> str:
        """Make an internal network on which the host does not answer; return its id."""
        # other workers take subnets, too: the process id only spreads where each begins to look
        for number in range(os.getpid(), os.getpid() + 1000):
            subnet = f"10.249.{number // 4 % 250}.{number % 4 * 64}/26"
            with contextlib.suppress(SubnetTakenError):
                return self._network(f"{self._prefix}-{next(_numbers)}", {"Config": [{"Subnet": subnet}]})
        raise AssertionError("no subnet is free")

    def _network(self, name: str, pool: Any) -> str:
        with self.engine.guarded("test network") as api:
            made = api.create_network(
                name,
                driver="bridge",
                internal=True,
                ipam=pool,
                options={"com.docker.network.bridge.inhibit_ipv4": "true"},
            )
        self._stack.callback(self._remove_network, made["Id"])
        return str(made["Id"])

    def container(self, image: str, network: str, **config: Any) -> tuple[str, str]:
        """Create and start a container; return its id and its address."""
        name = f"{self._prefix}-{next(_numbers)}"
        with self.engine.guarded("test container") as client:
            api: Any = client
            host = {
                "NetworkMode": network,
                "CapDrop": ["ALL"],
                "SecurityOpt": security_options(),
                "Dns": [UNUSABLE_DNS],
                "DnsOptions": ["timeout:1", "attempts:1"],
                "Sysctls": {
                    "net.ipv4.neigh.eth0.retrans_time_ms": "200",
                    "net.ipv4.neigh.eth0.mcast_solicit": "1",
                    "net.ipv4.ip_forward": "0",
                },
                **config.pop("HostConfig", {}),
            }
            made = api.create_container_from_config({"Image": image, "HostConfig": host, **config}, name=name)
            self._stack.callback(self._remove, made["Id"])
            api.start(made["Id"])
            networks = api.inspect_container(made["Id"])["NetworkSettings"]["Networks"]
        return made["Id"], next(iter(networks.values()))["IPAddress"]

    def agent(self, image: str, network: str, interceptor: str = "192.0.2.9", **environment: str) -> DockerBottle:
        """Start an agent whose environment points at an interceptor."""
        variables = {**agent_environment(interceptor), **environment}
        container, _ = self.container(
            image,
            network,
            Env=[f"{name}={value}" for name, value in variables.items()],
            HostConfig={"Tmpfs": {RUN_DIR: f"mode=0700,uid={AGENT_UID},gid={AGENT_GID},noexec,nosuid,nodev"}},
        )
        return DockerBottle(self.engine, container, name=f"agent {container[:12]}")

    def quick_store(self, bottle: DockerBottle) -> None:
        """Leave a handful of public roots, so that each rebuild of the store takes a fraction of a second."""
        assert bottle.exec(["sed", "-i", "12,$d", "/etc/ca-certificates.conf"], user="root").code == 0

    def restart(self, bottle: DockerBottle) -> None:
        with self.engine.guarded("test restart") as api:
            api.restart(bottle._id, timeout=1)

    def _remove(self, container: str) -> None:
        with self.engine.guarded("remove") as api:
            api.remove_container(container, v=True, force=True)

    def _remove_network(self, network: str) -> None:
        with self.engine.guarded("remove") as api:
            api.remove_network(network)


@dataclass
class Sidecars:
    """A running guard and interceptor: address of the interceptor, and its CA's certificate."""

    bottle: DockerBottle
    address: str
    certificate: bytes


def start_sidecars(bench: Bench, image: str, network: str, policy: EgressPolicy) -> Sidecars:
    """Start both in one container, the way the backend does: sealed files, tokens over standard input."""
    tmpfs = dict.fromkeys((RUN_DIR, files.STATE_DIR), f"mode=0700,uid={SIDECAR_UID},gid={SIDECAR_UID}")
    container, address = bench.container(
        image, network, Cmd=["sleep", "infinity"], User="65532", HostConfig={"Tmpfs": tmpfs}
    )
    users = {"agent": f"{SIDECAR_UID}:{SIDECAR_UID}", "root": "0:0"}
    bottle = DockerBottle(bench.engine, container, name="sidecars", users=users)  # type: ignore[arg-type]
    guard = files.guard_files("builtin", policy, listen="127.0.0.1", scan_token=SCAN_TOKEN, proxy_token=PROXY_TOKEN)
    inner = files.interceptor_files(policy, listen=address, guard="127.0.0.1")
    for path, data in files.seal({**guard, **inner}).items():
        bottle.copy_in(data, path, owner="root")
    for argv in (files.guard_argv("builtin", listen="127.0.0.1"), files.INTERCEPTOR_ARGV):
        _detached(bench.engine, container, ("sh", "-c", 'exec "$@" >> /tmp/log 2>&1', "sh", *argv))
    bottle.copy_in(files.interceptor_secrets(SCAN_TOKEN, PROXY_TOKEN), files.INTERCEPTOR_SECRETS, mode=0o600)
    end = time.monotonic() + 20
    while bottle.exec(files.INTERCEPTOR_HEALTH_ARGV).code != 0:
        assert time.monotonic() < end, bottle.exec(["cat", "/tmp/log"]).text
        time.sleep(0.1)
    return Sidecars(bottle, address, bottle.exec(["cat", files.CA_CERT]).stdout)


def _detached(engine: Engine, container: str, argv: Sequence[str], *, user: str = "65532") -> None:
    with engine.guarded("start in test container") as api:
        made = api.exec_create(container, list(argv), user=user)
        api.exec_start(made["Id"], detach=True)
