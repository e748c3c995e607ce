"""A launch on the real engine: up, adopted, repaired, down."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from docker.types import IPAMConfig, IPAMPool

from bottle_fsm import naming
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.backend.docker.plan import DockerBottlePlan
from bottle_fsm.backend.trust import FACT_CA
from bottle_fsm.errors import (
    BackendError,
    DecisionNeededError,
    DriftError,
    NameTakenError,
    NoLogError,
    PoolSpentError,
    SidecarExitedError,
)
from bottle_fsm.plan.bottle_plan import BottlePlan
from docker_backend.launch_bench import CANARY, LaunchBench, make_container, manifest
from docker_backend.memory_steps import DiedError

pytestmark = pytest.mark.engine


def _plan(bench: LaunchBench) -> DockerBottlePlan:
    assert isinstance(bench.plan, DockerBottlePlan)
    return bench.plan


def test_brings_a_bottle_up_adopts_it_and_leaves_nothing(bench: LaunchBench) -> None:
    bench.up()
    before = {r.role: r.id for r in bench.backend.observe(bench.launch).ours}
    assert set(before) == {"guard", "interceptor", "agent", "net-inside", "net-between", "net-outside"}
    assert len(bench.steps.facts[FACT_CA]) == 64

    bench.reborn()
    bench.up()
    assert {r.role: r.id for r in bench.backend.observe(bench.launch).ours} == before
    assert not [name for name in bench.steps.names() if name.startswith(("create", "start", "remove"))]

    bench.down()
    assert bench.backend.observe(bench.launch).resources == ()
    assert bench.labelled() == []
    assert not bench.steps.world


def test_proves_trust_and_egress_from_inside(standing: LaunchBench) -> None:
    bench = standing
    bench.backend.provision_ca(bench.plan, bench.launch, bench.steps)
    bench.backend.selftest(bench.plan, bench.launch, bench.steps)
    assert bench.backend.drift(bench.plan, bench.launch) == ""
    rows = {row["probe"]: row for row in bench.steps.found["selftest"]}
    for name in bench.backend.selftest_probes(bench.plan, bench.launch):
        assert rows[name]["ok"] is True, rows[name]
    done = len(bench.steps.done)
    bench.backend.provision_ca(bench.plan, bench.launch, bench.steps)
    assert "trust_gate" not in bench.steps.names()[done:]


def test_says_what_drifted_inside(standing: LaunchBench) -> None:
    bench = standing
    bench.backend.provision_ca(bench.plan, bench.launch, bench.steps)
    bench.bottle().exec(["rm", "/run/bottle/env"])
    bench.steps.known[FACT_CA] = "0" * 64
    with bench.engine.guarded("pause") as api:
        api.pause(bench.one("guard").id)
    found = bench.backend.drift(bench.plan, bench.launch)
    with bench.engine.guarded("unpause") as api:
        api.unpause(bench.one("guard").id)
    assert "does not reach the guard" in found
    assert "CA is not the recorded one" in found
    assert "secrets are not delivered" in found


def test_starts_a_stopped_agent_again_with_its_work_and_secrets(standing: LaunchBench) -> None:
    bench = standing
    before = bench.one("agent").id
    bench.bottle().copy_in(b"work", "/workspace/work.txt")
    with bench.engine.guarded("stop") as api:
        api.stop(before, timeout=1)
    with pytest.raises(DriftError, match="exited"):
        bench.backend.bottle(bench.launch)
    bench.reborn()
    bench.agent()
    assert bench.one("agent").id == before
    assert bench.bottle().read_file("/workspace/work.txt") == b"work"
    assert bench.bottle().exec(["sh", "-c", 'printf %s "$TOKEN"']).stdout == CANARY.encode()


def test_unpauses_a_paused_container(standing: LaunchBench) -> None:
    bench = standing
    before = bench.one("guard")
    with bench.engine.guarded("pause") as api:
        api.pause(before.id)
    assert bench.one("guard").state == "exited"
    bench.proxies()
    assert bench.one("guard").id == before.id
    assert bench.one("guard").state == "running"


@pytest.mark.parametrize("step", ["create guard", "copy into guard", "connect guard to net-outside"])
def test_makes_a_container_again_that_never_started(bench: LaunchBench, step: str) -> None:
    bench.steps.die_after = step
    with pytest.raises(DiedError):
        bench.proxies()
    dead = bench.one("guard")
    assert dead.state == "created"
    bench.reborn()
    bench.proxies()
    assert bench.one("guard").id != dead.id
    assert ("remove guard", "was created but never started") in bench.steps.done


@pytest.mark.parametrize("step", ["create net-inside", "create net-between", "start guard", "await guard"])
def test_adopts_what_a_dead_launcher_finished_but_never_recorded(bench: LaunchBench, step: str) -> None:
    bench.steps.die_after = step
    try:
        bench.proxies()
    except DiedError:
        before = {r.id for r in bench.backend.observe(bench.launch).ours}
        bench.reborn()
        bench.proxies()
        assert before <= {r.id for r in bench.backend.observe(bench.launch).ours}
    bench.down()
    assert bench.labelled() == []


def test_keeps_one_of_two_networks_of_one_name(bench: LaunchBench) -> None:
    bench.proxies()
    kept = bench.one("net-inside")
    with bench.engine.guarded("make a duplicate") as api:
        labels = api.inspect_network(kept.id)["Labels"]
        api.create_network(kept.name, labels=labels, check_duplicate=False, internal=True)
    assert len(bench.backend.observe(bench.launch).of_role("net-inside")) == 2
    bench.proxies()
    assert bench.one("net-inside").id == kept.id
    assert ("remove net-inside", "a duplicate") in bench.steps.done


def test_reports_a_sidecar_that_ends_within_two_seconds(bench: LaunchBench) -> None:
    guard = _plan(bench).proxy_plan
    bench.replan(proxy_plan=replace(guard, argv=("sh", "-c", "echo the reason >&2; exit 7")))
    bench.steps.die_before = "start guard"
    with pytest.raises(DiedError):
        bench.proxies()
    bench.reborn()
    bench.steps.die_before = ""
    began = time.monotonic()
    with pytest.raises(SidecarExitedError, match=r"exit code 7.*the reason"):
        bench.proxies()
    assert time.monotonic() - began < 4.0  # making it again included


def test_tells_an_early_exit_from_a_slow_start_while_it_waits(bench: LaunchBench) -> None:
    guard = _plan(bench).proxy_plan
    bench.replan(proxy_plan=replace(guard, argv=("sh", "-c", "sleep 1.5; echo later >&2; exit 3")))
    began = time.monotonic()
    with pytest.raises(SidecarExitedError, match=r"exit code 3.*later"):
        bench.proxies()
    assert time.monotonic() - began < 6.0


def test_refuses_a_name_that_a_stranger_has_and_does_not_touch_it(
    bench: LaunchBench, images: dict[str, ImageRef]
) -> None:
    name = naming.object_name("guard", bench.launch.slug)
    with bench.engine.guarded("make a stranger") as api:
        config = {"Image": images["agent"].id, "Cmd": ["sleep", "60"]}
        stranger = make_container(api, config, name)
    with pytest.raises(NameTakenError, match=name):
        bench.proxies()
    bench.down()
    with bench.engine.guarded("look") as api:
        assert api.inspect_container(stranger)["State"]["Status"] == "created"
    assert bench.labelled() == []


def test_refuses_the_agents_name_when_a_stranger_takes_it_in_between(
    bench: LaunchBench, images: dict[str, ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.proxies()
    bench.mitm()
    name = naming.object_name("agent", bench.launch.slug)
    volumes = bench.backend._agent.volumes

    def stranger_comes_first(work: object) -> dict[str, str]:
        monkeypatch.setattr(bench.backend._agent, "volumes", volumes)
        with bench.engine.guarded("make a stranger") as api:
            config = {"Image": images["agent"].id, "Cmd": ["sleep", "60"]}
            make_container(api, config, name)
        return {}

    monkeypatch.setattr(bench.backend._agent, "volumes", stranger_comes_first)
    with pytest.raises(NameTakenError, match="not ours"):
        bench.agent()


def test_says_when_the_address_pool_is_spent(engine: Engine, images: dict[str, ImageRef], tmp_path: Path) -> None:
    wish = manifest().model_copy()
    wish = type(wish).model_validate(
        {**wish.model_dump(by_alias=True), "networks": {"pool": ["10.214.77.0/28"], "prefix": 29}}
    )
    bench = LaunchBench.make(engine, tmp_path, wish)
    try:
        with pytest.raises(PoolSpentError, match=r"no subnet of /29 is free in the pool 10\.214\.77\.0/28"):
            bench.proxies()
        assert len(bench.labelled()) == 2
        bench.down()
        assert bench.labelled() == []
    finally:
        bench.clean()


def test_detects_a_network_that_was_swapped_before_the_first_start(bench: LaunchBench) -> None:
    bench.proxies()
    bench.mitm()
    bench.steps.die_before = "start agent"
    inside = bench.one("net-inside")
    with pytest.raises(DiedError):
        bench.agent()
    agent = bench.one("agent")
    interceptor = bench.one("interceptor")
    with bench.engine.guarded("swap the network") as api:
        found = api.inspect_network(inside.id)
        api.disconnect_container_from_network(interceptor.id, inside.id, force=True)
        api.remove_network(inside.id)
        pool = found["IPAM"]["Config"][0]
        same = IPAMConfig(pool_configs=[IPAMPool(subnet=pool["Subnet"], gateway=pool["Gateway"])])
        swapped = api.create_network(inside.name, ipam=same, internal=False)["Id"]
    # the very next call of the dead launcher: a container that never started binds its network by name
    bench.steps.die_before = ""
    with bench.engine.guarded("start") as api:
        api.start(agent.id)
        joined = api.inspect_container(agent.id)["NetworkSettings"]["Networks"]
    assert [n["NetworkID"] for n in joined.values()] == [swapped]
    try:
        with pytest.raises((DriftError, NameTakenError)):
            bench.agent()
    finally:
        bench.clean()
        with bench.engine.guarded("remove the swapped network") as api:
            api.remove_network(swapped)


def test_stops_a_container_whose_networks_are_not_the_planned_ones(standing: LaunchBench) -> None:
    bench = standing
    with bench.engine.guarded("join another network") as api:
        api.connect_container_to_network(bench.one("agent").id, bench.one("net-outside").id)
    bench.reborn()
    with pytest.raises(DriftError, match="other networks than planned"):
        bench.agent()
    assert bench.one("agent").state == "exited"


def test_names_a_stranger_on_the_inside_network(bench: LaunchBench, images: dict[str, ImageRef]) -> None:
    bench.proxies()
    bench.mitm()
    inside = bench.one("net-inside").id
    with bench.engine.guarded("a stranger joins") as api:
        config = {"Image": images["agent"].id, "HostConfig": {"NetworkMode": inside}}
        stranger = make_container(api, config, f"stranger-{bench.launch.slug}")
        api.start(stranger)
    try:
        with pytest.raises(DriftError, match=f"stranger-{bench.launch.slug}"):
            bench.agent()
        bench.backend.stop_mitm(bench.launch, bench.steps)
        with pytest.raises(BackendError, match=f"members that are not ours: stranger-{bench.launch.slug}"):
            bench.backend.stop_proxies(bench.launch, bench.steps)
    finally:
        with bench.engine.guarded("the stranger leaves") as api:
            api.remove_container(stranger, force=True)


def test_never_starts_the_agent_beside_a_dead_sidecar(bench: LaunchBench) -> None:
    bench.proxies()
    bench.mitm()
    with bench.engine.guarded("kill the guard") as api:
        api.kill(bench.one("guard").id)
    with pytest.raises(SidecarExitedError):
        bench.agent()
    assert bench.backend.observe(bench.launch).of_role("agent") == ()


def test_restarts_a_dead_interceptor_and_keeps_its_ca(standing: LaunchBench) -> None:
    bench = standing
    before, ca = bench.one("interceptor").id, bench.steps.facts[FACT_CA]
    with bench.engine.guarded("kill the interceptor") as api:
        api.kill(before)
    bench.reborn()
    bench.mitm()
    assert bench.one("interceptor").id == before
    assert bench.steps.facts[FACT_CA] == ca
    assert ("start interceptor", "exited with code 137") in bench.steps.done


def test_records_a_new_ca_when_the_interceptor_was_made_again(standing: LaunchBench) -> None:
    bench = standing
    ca = bench.steps.facts[FACT_CA]
    with bench.engine.guarded("remove the interceptor") as api:
        api.remove_container(bench.one("interceptor").id, force=True)
    bench.mitm()
    assert bench.steps.facts[FACT_CA] != ca
    assert [cause for name, cause in bench.steps.done if name == "note the CA"][-1].startswith("another one than")


def test_refuses_an_object_of_a_newer_epoch(bench: LaunchBench) -> None:
    bench.reborn()
    bench.proxies()
    bench.steps._epoch = 1
    with pytest.raises(DecisionNeededError, match="later owner"):
        bench.backend.observe(bench.launch)


def test_refuses_another_engine_than_the_recorded_one(bench: LaunchBench) -> None:
    other = replace(bench.plan, endpoint={**bench.plan.endpoint, "engine_id": "AAAA:BBBB"})
    with pytest.raises(DecisionNeededError, match="another engine"):
        bench.backend.check_endpoint(other)
    bench.backend.check_endpoint(bench.plan)


def test_asks_before_it_replaces_an_agent_that_ran(standing: LaunchBench) -> None:
    bench = standing
    before = bench.one("agent").id
    agent = _plan(bench).agent_plan
    bench.replan(agent_plan=replace(agent, pids=agent.pids + 1))
    with pytest.raises(DecisionNeededError, match="made again"):
        bench.agent()
    assert bench.one("agent").id == before
    bench.reborn(agrees=True)
    bench.agent()
    assert bench.one("agent").id != before


def test_makes_networks_again_under_running_containers(standing: LaunchBench) -> None:
    bench = standing
    agent = bench.one("agent").id
    bench.bottle().copy_in(b"work", "/workspace/work.txt")
    networks = tuple(
        replace(n, options={**n.options, "com.docker.network.bridge.enable_icc": "true"}) if n.internal else n
        for n in _plan(bench).networks
    )
    old = bench.one("net-inside").id
    bench.replan(networks=networks)
    bench.reborn()
    bench.up()
    assert bench.one("net-inside").id != old
    assert bench.one("agent").id == agent
    assert bench.bottle().read_file("/workspace/work.txt") == b"work"


def test_takes_an_old_launch_of_the_same_bottle_away(bench: LaunchBench) -> None:
    bench.proxies()
    old = bench.one("guard").id
    bench.reborn()
    bench.steps.known.clear()
    bench.steps.world.clear()
    bench.launch_id, bench.steps.seed = "launch-2", "launch-2"
    bench.proxies()
    guard = bench.one("guard")
    assert guard.id != old
    assert guard.launch == "launch-2"
    assert ("remove guard", "belongs to another launch, launch-1") in bench.steps.done


def test_removes_volumes_that_an_image_declares(engine: Engine, images: dict[str, ImageRef], tmp_path: Path) -> None:
    tag = "bench-volumes:1"
    recipe = tmp_path / "Dockerfile"
    recipe.write_text(f"FROM {images['agent'].tag}\nVOLUME /data\n")
    with engine.guarded("build", timeout=120.0) as api:
        list(api.build(path=str(tmp_path), tag=tag, rm=True, decode=True))
        volumes = {v["Name"] for v in api.volumes().get("Volumes") or []}
    bench = LaunchBench.make(engine, tmp_path, manifest(image=tag))
    try:
        bench.up()
        (volume,) = bench.backend.observe(bench.launch).of_role("volume")
        with engine.guarded("inspect") as api:
            mounts = api.inspect_container(bench.one("agent").id)["Mounts"]
        assert [(m["Name"], m["Destination"]) for m in mounts if m["Type"] == "volume"] == [(volume.name, "/data")]
        bench.down()
        assert bench.labelled() == []
        with engine.guarded("list volumes") as api:
            assert {v["Name"] for v in api.volumes().get("Volumes") or []} <= volumes
    finally:
        bench.clean()
        with engine.guarded("remove the image") as api:
            api.remove_image(tag, force=True)


def test_joins_the_users_own_outside_network_and_leaves_it(
    engine: Engine, images: dict[str, ImageRef], tmp_path: Path
) -> None:
    name = f"users-{tmp_path.name}".lower()[:40]
    with engine.guarded("make the user's network") as api:
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet="203.0.113.0/28")])
        own = api.create_network(name, ipam=pool)["Id"]
    wish = manifest(egress={"guard": "builtin", "allow": ["example.org"], "network": name})
    bench = LaunchBench.make(engine, tmp_path, wish)
    try:
        bench.proxies()
        with engine.guarded("inspect") as api:
            assert list(api.inspect_network(own)["Containers"]) == [bench.one("guard").id]
        bench.down()
        with engine.guarded("inspect") as api:
            assert api.inspect_network(own)["Name"] == name
    finally:
        bench.clean()
        with engine.guarded("remove the user's network") as api:
            api.remove_network(own)
    with pytest.raises(BackendError, match=f"no network {name}"):
        bench.backend.validate(bench.spec)


def test_keeps_its_plan_through_text(bench: LaunchBench) -> None:
    again = bench.backend.load_plan(bench.plan.to_json())
    assert again == bench.plan
    assert again.digest == bench.plan.digest == bench.backend.resolve_plan(bench.spec).digest
    assert CANARY not in str(bench.plan.to_json())


def test_refuses_a_plan_of_another_backend(bench: LaunchBench) -> None:
    parts = {name: getattr(bench.plan, name) for name in (f.name for f in fields(BottlePlan))}
    with pytest.raises(BackendError, match="cannot be carried out"):
        bench.backend.start_proxies(BottlePlan(**parts), bench.launch, bench.steps)


def test_reads_logs_by_role(bench: LaunchBench) -> None:
    bench.proxies()
    assert b"startup" in bench.backend.logs(bench.launch, "guard", 10)
    whole = bench.backend.logs(bench.launch, "guard", None)
    assert b"startup" in whole
    assert bench.backend.logs(bench.launch, "guard", None, since=time.time() - 3600) == whole
    assert bench.backend.logs(bench.launch, "guard", None, since=time.time() + 3600) == b""
    with pytest.raises(NoLogError, match="no agent"):
        bench.backend.logs(bench.launch, "agent", 10)
