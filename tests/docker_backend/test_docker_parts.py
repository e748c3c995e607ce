"""The pure parts of the Docker backend: addresses, plan, seccomp profile, creation, orphans."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm import naming
from bottle_fsm.backend.docker import addresses
from bottle_fsm.backend.docker.creation import Circumstances, container_config, filled
from bottle_fsm.backend.docker.hardening import (
    ALLOWED,
    NAMESPACE_FLAGS,
    SOCKET_FAMILIES,
    TIOCSTI,
    seccomp_profile,
    security_options,
)
from bottle_fsm.backend.docker.networks import internal_options
from bottle_fsm.backend.docker.plan import AgentPlan, NetworkPlan, ProxyPlan, image_fact, subnet_fact
from bottle_fsm.errors import ProvisionError
from bottle_fsm.transfer import checked_path, is_orphan, new_mark

DANGEROUS = """
add_key bpf chroot delete_module fsconfig fsmount fsopen init_module io_uring_enter io_uring_register io_uring_setup
kcmp kexec_load keyctl lookup_dcookie mount move_mount move_pages name_to_handle open_by_handle_at open_tree
perf_event_open pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace quotactl reboot request_key setns
settimeofday swapon syslog umount2 unshare userfaultfd vhangup
"""

prefixes = st.integers(24, 29)


@given(seed=st.text(max_size=20), prefix=prefixes, sizes=st.lists(st.integers(20, 24), min_size=1, max_size=3))
def test_tries_every_subnet_of_the_pool_once_in_an_order_of_its_own(seed: str, prefix: int, sizes: list[int]) -> None:
    pool = [f"10.{200 + number}.0.0/{size}" for number, size in enumerate(sizes)]
    tried = list(addresses.candidates(pool, prefix, seed))
    wanted = [str(s) for entry in pool for s in ipaddress.IPv4Network(entry).subnets(new_prefix=prefix)]
    assert sorted(tried) == sorted(wanted)
    assert tried == list(addresses.candidates(pool, prefix, seed))


def test_starts_at_different_places_for_different_bottles() -> None:
    firsts = {next(addresses.candidates(["10.213.0.0/16"], 29, f"agent-{number}")) for number in range(20)}
    assert len(firsts) > 15


def test_leaves_out_what_is_taken() -> None:
    found = list(addresses.free(["10.0.0.0/29", "10.0.0.8/29", "10.0.1.0/29"], ["10.0.0.0/28", "fd00::/64", "", "odd"]))
    assert found == ["10.0.1.0/29"]


@given(prefix=prefixes)
def test_gives_everyone_an_address_and_nobody_the_gateways(prefix: int) -> None:
    subnet = f"10.1.2.0/{prefix}"
    numbers = (addresses.GATEWAY, addresses.INTERCEPTOR, addresses.PARTNER)
    found = [addresses.address(subnet, number) for number in numbers]
    assert len(set(found)) == 3
    assert set(found) <= {str(host) for host in ipaddress.IPv4Network(subnet).hosts()}


def _network() -> NetworkPlan:
    return NetworkPlan("net-inside", "claude-bottle-net-x", True, {"a": "b"}, ("10.0.0.0/24",), 29, "x")


def _agent(**changes: object) -> AgentPlan:
    plan = AgentPlan(
        name="claude-bottle-x",
        image="i",
        ours="",
        argv=("run", "{interceptor}"),
        user="1000:1000",
        networks=(naming.ROLE_NET_INSIDE,),
        env={"P": "http://{interceptor}:1", "B": "{other}"},
        sysctls={"net.ipv4.ip_forward": "0", "net.ipv4.neigh.eth0.mcast_solicit": "1"},
        extra_hosts={"h": "10.0.0.1"},
        health=("ask", "{guard}"),
        cpus=1.5,
    )
    return replace(plan, **changes)  # type: ignore[arg-type]  # test data


def test_names_what_made_a_network_without_where_it_was_looked_for() -> None:
    assert _network().planned() == replace(_network(), pool=("10.9.0.0/24",), seed="y").planned()
    assert _network().planned() != replace(_network(), options={}).planned()
    assert next(_network().candidates()).startswith("10.0.0.")


@pytest.mark.parametrize(
    "change",
    [{"argv": ("x",)}, {"user": "1:1"}, {"env": {}}, {"pids": 1}, {"hardening": {"seccomp": "x"}}, {"bind": "/x"}],
)
def test_takes_every_creation_time_input_into_the_spec(change: dict[str, object]) -> None:
    facts = {image_fact("agent"): "i1", subnet_fact(naming.ROLE_NET_INSIDE): "10.0.0.0/29"}
    spec = _agent().planned().spec(facts)
    assert spec == _agent().planned().spec({**facts, "unrelated": "x"})
    assert spec != _agent(**change).planned().spec(facts)
    assert spec != _agent().planned().spec({**facts, image_fact("agent"): "i2"})
    assert spec != _agent().planned().spec({**facts, subnet_fact(naming.ROLE_NET_INSIDE): "10.0.0.8/29"})


def test_reads_container_plans_back_from_text() -> None:
    for plan in (_agent(), ProxyPlan("n", "i", "", ("a",), "1:1", (naming.ROLE_NET_BETWEEN,), entrypoint=("e",))):
        value = json.loads(json.dumps(plan.planned().inputs))
        value.pop("generator")
        assert type(plan).from_json(value) == plan
    assert ProxyPlan("n", "i", "", ("a",), "1:1", ()).planned().precious is False
    assert _agent().planned().precious is True


def _given(api_version: str) -> Circumstances:
    return Circumstances(
        image="sha256:i",
        network="net-id",
        address="10.0.0.3",
        names={"interceptor": "10.0.0.2", "guard": "10.0.0.9"},
        labels={"l": "v", naming.LABEL_ROLE: "agent"},
        api_version=api_version,
        volumes={"vol": "/data"},
    )


def test_fills_addresses_in_and_leaves_other_braces_alone() -> None:
    assert filled("a{guard}b{x}{}", {"guard": "G"}) == "aGb{x}{}"
    config = container_config(_agent(bind="/src", runtime="runsc", workdir="/workspace"), _given("1.41"))
    assert config["Cmd"] == ["run", "10.0.0.2"]
    assert config["Env"] == ["B={other}", "P=http://10.0.0.2:1"]
    assert config["Healthcheck"]["Test"] == ["CMD", "ask", "10.0.0.9"]
    host = config["HostConfig"]
    assert (host["Runtime"], host["NanoCpus"], host["ExtraHosts"]) == ("runsc", 1_500_000_000, ["h:10.0.0.1"])
    assert [mount["Type"] for mount in host["Mounts"]] == ["volume", "bind"]
    assert host["Mounts"][0]["VolumeOptions"]["Labels"][naming.LABEL_ROLE] == naming.ROLE_VOLUME
    assert "Entrypoint" not in config
    assert "Healthcheck" not in container_config(_agent(health=()), _given("1.41"))


def test_gives_interface_settings_where_the_engine_takes_them() -> None:
    old = container_config(_agent(), _given("1.41"))
    assert old["HostConfig"]["Sysctls"] == _agent().sysctls
    assert "DriverOpts" not in old["NetworkingConfig"]["EndpointsConfig"]["net-id"]
    new = container_config(_agent(), _given("1.48"))
    assert new["HostConfig"]["Sysctls"] == {"net.ipv4.ip_forward": "0"}
    options = new["NetworkingConfig"]["EndpointsConfig"]["net-id"]["DriverOpts"]
    assert options == {"com.docker.network.endpoint.sysctls": "net.ipv4.neigh.IFNAME.mcast_solicit=1"}


def test_keeps_the_host_off_the_gateway_on_old_and_new_engines() -> None:
    assert internal_options("1.41") == {"com.docker.network.bridge.inhibit_ipv4": "true"}
    assert internal_options("1.48") == {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}


def _allows(name: str, *arguments: int) -> bool:
    """Evaluate the profile as the kernel would: 64-bit comparisons, any allowing rule allows."""
    for rule in seccomp_profile()["syscalls"]:
        if name not in rule["names"] or rule["action"] != "SCMP_ACT_ALLOW":
            continue
        if all(_holds(condition, arguments[condition["index"]]) for condition in rule.get("args", [])):
            return True
    return False


def _holds(condition: dict[str, int | str], value: int) -> bool:
    wanted = int(condition["value"])
    if condition["op"] == "SCMP_CMP_EQ":
        return value == wanted
    assert condition["op"] == "SCMP_CMP_MASKED_EQ"
    return value & wanted == int(condition["valueTwo"])


def test_denies_by_default_and_never_names_what_reaches_out() -> None:
    assert seccomp_profile()["defaultAction"] == "SCMP_ACT_ERRNO"
    dangerous = set(DANGEROUS.split())
    assert not dangerous & set(ALLOWED)
    assert len(ALLOWED) == len(set(ALLOWED)) > 300


@given(st.integers(0, (1 << 64) - 1))
def test_lets_every_terminal_request_through_but_the_one_that_types(request_number: int) -> None:
    assert _allows("ioctl", 0, request_number) == ((request_number & 0xFFFFFFFF) != TIOCSTI)
    assert not _allows("ioctl", 0, (request_number << 32 | TIOCSTI) & ((1 << 64) - 1))


@given(st.integers(0, (1 << 64) - 1))
def test_lets_no_new_namespace_and_no_other_socket_through(value: int) -> None:
    assert _allows("clone", value) == (value & NAMESPACE_FLAGS == 0)
    assert _allows("socket", value) == (value in SOCKET_FAMILIES)


def test_hands_the_profile_to_the_engine_as_text() -> None:
    privileges, profile = security_options()
    assert privileges == "no-new-privileges:true"
    assert json.loads(profile.removeprefix("seccomp=")) == seccomp_profile()


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a/./b", "/a/", "/", "/a\n", "/a\0b"])
def test_refuses_paths_that_are_not_plain(path: str) -> None:
    with pytest.raises(ProvisionError, match="no plain absolute path"):
        checked_path(path)


def test_knows_whose_command_a_mark_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = new_mark()
    assert not is_orphan(mine)
    assert not is_orphan(mine.replace(f"-{os.getpid()}-", "-1-"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert is_orphan(mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    assert is_orphan("00000000" + mine[8:])
    assert is_orphan("nonsense")

    def denied(pid: int, signal: int) -> None:
        raise PermissionError(pid, signal)

    monkeypatch.setattr(os, "kill", denied)
    assert not is_orphan(mine)
    assert len(set(itertools.islice(iter(new_mark, None), 9))) == 9
