"""From a container's plan to the engine's own JSON for creating it. Pure.

What the plan can only name, an address or an id, is filled in here: `{guard}`, `{interceptor}` and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bottle_fsm import naming
from bottle_fsm.backend.docker.hardening import security_options
from bottle_fsm.backend.docker.plan import AgentPlan, ContainerPlan
from bottle_fsm.places import WORKSPACE

_SECOND: Final = 1_000_000_000
_ENDPOINT_SYSCTLS_SINCE: Final = (1, 47)
_INTERFACE: Final = "net.ipv4.neigh.eth0."
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was chosen while acting.

    Attributes:
        image: the image's id. network: id of the first network. address: the container's address on it.
        names: placeholder → address. labels: of the container. api_version: the engine's.
        volumes: name of a labelled volume → path of a volume that the image declares.
    """

    image: str
    network: str
    address: str
    names: Mapping[str, str]
    labels: Mapping[str, str]
    api_version: str
    volumes: Mapping[str, str]


def container_config(plan: ContainerPlan, given: Circumstances) -> dict[str, Any]:
    """Return the body of the engine's create call."""
    config: dict[str, Any] = {
        "Image": given.image,
        "Cmd": [filled(word, given.names) for word in plan.argv],
        "User": plan.user,
        "Env": [f"{name}={filled(value, given.names)}" for name, value in sorted(plan.env.items())],
        "Labels": dict(given.labels),
        "HostConfig": _host_config(plan, given),
        "NetworkingConfig": {"EndpointsConfig": {given.network: _endpoint(plan, given)}},
    }
    if plan.entrypoint is not None:
        config["Entrypoint"] = list(plan.entrypoint)
    if plan.workdir:
        config["WorkingDir"] = plan.workdir
    if plan.health:
        config["Healthcheck"] = {
            "Test": ["CMD", *(filled(word, given.names) for word in plan.health)],
            "Interval": 30 * _SECOND,
            "Timeout": 5 * _SECOND,
            "Retries": 3,
        }
    return config


def filled(text: str, names: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced; other braces are left alone."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _host_config(plan: ContainerPlan, given: Circumstances) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": given.network,
        "RestartPolicy": {"Name": "no"},
        "CapDrop": ["ALL"],
        "SecurityOpt": security_options(),
        "Privileged": False,
        "IpcMode": "private",
        "PidsLimit": plan.pids,
        "Memory": plan.memory,
        "MemorySwap": plan.memory,
        "NanoCpus": int(plan.cpus * _SECOND),
        "Tmpfs": dict(plan.tmpfs),
        "Sysctls": {k: v for k, v in plan.sysctls.items() if not (_modern(given) and k.startswith(_INTERFACE))},
        "Dns": list(plan.dns),
        "DnsOptions": list(plan.dns_opt),
        "ExtraHosts": [f"{name}:{address}" for name, address in sorted(plan.extra_hosts.items())],
        "LogConfig": _LOG,
        "Mounts": [_volume(name, path, given.labels) for name, path in sorted(given.volumes.items())],
    }
    if plan.runtime:
        config["Runtime"] = plan.runtime
    if isinstance(plan, AgentPlan) and plan.bind:
        config["Mounts"].append({"Type": "bind", "Source": plan.bind, "Target": WORKSPACE})
    return config


def _volume(name: str, path: str, labels: Mapping[str, str]) -> dict[str, Any]:
    own = {**labels, naming.LABEL_ROLE: naming.ROLE_VOLUME}
    return {"Type": "volume", "Source": name, "Target": path, "VolumeOptions": {"Labels": own}}


def _endpoint(plan: ContainerPlan, given: Circumstances) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"IPAMConfig": {"IPv4Address": given.address}}
    interface = {k: v for k, v in plan.sysctls.items() if k.startswith(_INTERFACE)}
    if interface and _modern(given):
        text = ",".join(f"{name.replace('eth0', 'IFNAME')}={value}" for name, value in sorted(interface.items()))
        endpoint["DriverOpts"] = {"com.docker.network.endpoint.sysctls": text}
    return endpoint


def _modern(given: Circumstances) -> bool:
    """Say whether the engine takes an interface's sysctls with its endpoint; newer ones take them nowhere else."""
    return tuple(int(part) for part in given.api_version.split(".")) >= _ENDPOINT_SYSCTLS_SINCE
