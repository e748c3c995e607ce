"""What is repaired, refused, planned otherwise or found by a look inside."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docker.types import IPAMConfig, IPAMPool

from bottle_fsm import naming
from bottle_fsm.backend.docker import networks, resolve
from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.backend.docker.plan import DockerBottlePlan, NetworkPlan, image_fact
from bottle_fsm.backend.docker.wait import wait_ready
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import (
    BackendError,
    DriftError,
    EngineUnavailableError,
    NameTakenError,
    StepTimeoutError,
    ValidationError,
)
from bottle_fsm.manifest.model import Manifest
from docker_backend.launch_bench import LaunchBench, make_container, manifest

pytestmark = pytest.mark.engine


def _plan(bench: LaunchBench) -> DockerBottlePlan:
    assert isinstance(bench.plan, DockerBottlePlan)
    return bench.plan


def test_tells_what_would_be_lost(running: LaunchBench) -> None:
    bottle = running.bottle()
    assert running.backend.unsaved_work(running.launch) == ""
    bottle.copy_in(b"x", "/workspace/new")
    assert running.backend.unsaved_work(running.launch) == "its workspace has 1 changed files"
    git = "git init -q . && git add . && git -c user.name=a -c user.email=b commit -qm x && touch other"
    assert bottle.exec(["sh", "-c", git]).code == 0
    found = running.backend.unsaved_work(running.launch)
    assert found == "its workspace has 1 changed files and 1 commits that no remote has"
    bottle.exec(["sh", "-c", "rm -rf /workspace/* /workspace/.git"])


def test_finds_another_policy_and_a_ca_that_is_not_trusted(running: LaunchBench) -> None:
    policy = {**running.plan.policy, "allow": [["other.example", 443]]}
    found = running.backend.drift(replace(running.plan, policy=policy), running.launch)
    assert "the interceptor has another policy" in found
    assert "trust: " in found


def test_passes_the_gate_again_in_an_agent_that_was_started_again(standing: LaunchBench) -> None:
    bench = standing

    def gates() -> int:
        bench.backend.provision_ca(bench.plan, bench.launch, bench.steps)
        return [name for name, _ in bench.steps.done].count("trust proved")

    assert gates() == 1
    assert gates() == 1, "proved since its last start"
    with bench.engine.guarded("restart the agent") as api:
        api.restart(bench.one("agent").id, timeout=0)
    assert gates() == 2


def test_says_when_something_is_gone_or_stopped(bench: LaunchBench) -> None:
    assert bench.backend.unsaved_work(bench.launch) == ""
    bench.proxies()
    assert bench.backend.drift(bench.plan, bench.launch) == "a container is gone"
    bench.mitm()
    bench.agent()
    with bench.engine.guarded("stop") as api:
        api.stop(bench.one("agent").id, timeout=0)
        api.stop(bench.one("interceptor").id, timeout=0)
    assert "cannot be looked at" in bench.backend.unsaved_work(bench.launch)
    assert bench.backend.drift(bench.plan, bench.launch).count("claude-bottle-") == 2


def test_records_what_went_away_by_itself(bench: LaunchBench) -> None:
    bench.proxies()
    with bench.engine.guarded("remove by hand") as api:
        api.remove_container(bench.one("guard").id, force=True)
    bench.down()
    assert ("note guard is gone", "recorded, but not found") in bench.steps.done
    assert ("remove agent", "not found") in bench.steps.skipped
    assert not bench.steps.world


def test_finds_what_is_recorded_although_its_name_changed(bench: LaunchBench) -> None:
    bench.proxies()
    guard = bench.one("guard").id
    with bench.engine.guarded("rename") as api:
        api.rename(guard, f"renamed-{bench.launch.slug}")
    assert [r.id for r in bench.backend.observe(bench.launch).of_role("guard")] == [guard]
    bench.down()
    assert bench.labelled() == []


def test_gives_up_waiting_with_the_last_lines(bench: LaunchBench) -> None:
    bench.replan(proxy_plan=replace(_plan(bench).proxy_plan, argv=("sh", "-c", "echo still busy; sleep 60")))
    bench.reborn(_deadline=time.monotonic() + 6)
    with pytest.raises(StepTimeoutError, match=r"ready in time.*still busy|attempt's time is over"):
        bench.proxies()


def test_reports_the_better_reason_when_a_probe_fails(running: LaunchBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise BackendError("the probe failed")

    with pytest.raises(BackendError, match="the probe failed"):
        wait_ready(running.engine, running.one("guard").id, name="guard", ready=broken, steps=running.steps)


def test_refuses_a_sidecar_that_runs_but_is_not_ready(bench: LaunchBench) -> None:
    bench.proxies()
    guard = bench.one("guard").id
    with bench.engine.guarded("freeze the process") as api:
        exec_id = api.exec_create(guard, ["sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)"])["Id"]
        api.exec_start(exec_id)
    with pytest.raises(DriftError, match="runs, but is not ready"):
        bench.mitm()


def test_says_when_a_sidecar_or_network_is_gone(bench: LaunchBench) -> None:
    bench.proxies()
    with bench.engine.guarded("remove by hand") as api:
        api.remove_container(bench.one("guard").id, force=True)
    with pytest.raises(DriftError, match="is gone"):
        bench.mitm()
    bench.proxies()
    with bench.engine.guarded("remove by hand") as api:
        api.remove_network(bench.one("net-inside").id)
    with pytest.raises(DriftError, match="the network that was made for this launch is gone"):
        bench.mitm()


def test_refuses_a_network_name_that_a_stranger_has(bench: LaunchBench) -> None:
    name = naming.object_name("net-inside", bench.launch.slug)
    with bench.engine.guarded("a stranger's network") as api:
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet="203.0.113.64/29")])
        stranger = api.create_network(name, ipam=pool)["Id"]
    try:
        with pytest.raises(NameTakenError, match=name):
            bench.proxies()
    finally:
        with bench.engine.guarded("the stranger leaves") as api:
            api.remove_network(stranger)


def test_looks_again_when_a_network_name_is_taken_in_between(
    bench: LaunchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = naming.object_name("net-inside", bench.launch.slug)
    request = networks._request
    made: list[str] = []

    def dead_launcher_first(work: Work, network: NetworkPlan, subnet: str) -> str:
        if not made:
            made.append(request(work, network, subnet))
            raise NameTakenError("as a request of a dead launcher that arrives late", place=name)
        return request(work, network, subnet)

    monkeypatch.setattr(networks, "_request", dead_launcher_first)
    bench.proxies()
    assert bench.one("net-inside").id == made[0]


def test_skips_subnets_that_the_engine_refuses(bench: LaunchBench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.engine.guarded("somebody's network") as api:
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet="10.215.9.0/29")])
        other = api.create_network(f"other-{bench.launch.slug}", ipam=pool)["Id"]
    subnets = networks._subnets
    monkeypatch.setattr(
        networks, "_subnets", lambda work, network: iter(["10.215.9.0/29", *list(subnets(work, network))[:3]])
    )
    try:
        bench.proxies()
        assert bench.one("net-inside").detail["subnet"] != "10.215.9.0/29"
    finally:
        bench.clean()
        with bench.engine.guarded("clean up") as api:
            api.remove_network(other)


def test_gets_an_image_again_that_was_recorded_and_is_gone(bench: LaunchBench) -> None:
    bench.proxies()
    before = dict(bench.steps.facts)
    bench.steps.known[image_fact("agent")] = "sha256:" + "0" * 64
    bench.proxies()
    assert bench.steps.facts[image_fact("agent")] == before[image_fact("agent")]
    assert bench.steps.names().count("images") == 2


def test_mounts_a_bound_workspace_on_a_local_engine_only(
    engine: Engine, images: dict[str, ImageRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir(mode=0o777)
    (tmp_path / "work" / "here").write_text("on the host")
    value = manifest().model_dump(by_alias=True, exclude_defaults=True)
    value["agents"]["worker"]["workspace"] = {"source": "./work", "mode": "bind"}
    bench = LaunchBench.make(engine, tmp_path, Manifest.model_validate(value))
    try:
        bench.up()
        assert bench.bottle().read_file("/workspace/here") == b"on the host"
        assert any(str(tmp_path / "work") in line for line in bench.plan.isolation)
        monkeypatch.setattr(Engine, "url", "tcp://192.0.2.9:2375")
        with pytest.raises(ValidationError, match="needs an engine on this host"):
            bench.backend.validate(bench.spec)
    finally:
        monkeypatch.undo()
        bench.clean()


def test_plans_further_roots_for_the_interceptor_alone(
    engine: Engine, images: dict[str, ImageRef], tmp_path: Path
) -> None:
    pem = tmp_path / "roots.pem"
    pem.write_bytes(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()[:3000].rpartition(b"-----BEGIN")[0])
    wish = manifest(egress={"guard": "builtin", "allow": ["example.org"], "upstream_ca": ["./roots.pem"]})
    bench = LaunchBench.make(engine, tmp_path, wish)
    try:
        assert _plan(bench).mitmproxy_plan.upstream_ca == (pem.read_text().rstrip("\n") + "\n",)
        bench.proxies()
        bench.mitm()
        pem.unlink()
        with pytest.raises(ValidationError, match=r"cannot read .*roots\.pem"):
            bench.backend.resolve_plan(bench.spec)
    finally:
        bench.clean()


def test_plans_gvisor_where_the_engine_has_it(bench: LaunchBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _plan(bench).agent_plan.runtime == ""
    monkeypatch.setattr(resolve.Resolution, "runtime", "runsc")
    assert "runtime runsc (gVisor)" in bench.backend.resolve_plan(bench.spec).isolation


@pytest.fixture(scope="module")
def pipelock(engine: Engine, images: dict[str, ImageRef], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image named by BOTTLE_PIPELOCK_IMAGE, else a stand-in with the same command line."""
    given = os.environ.get("BOTTLE_PIPELOCK_IMAGE")
    if given:
        yield given
        return
    place, tag = tmp_path_factory.mktemp("pipelock"), "bench-pipelock:1"
    source = (Path(__file__).parent / "stand_in_pipelock.py").read_text()
    (place / "pipelock").write_text("#!/usr/bin/python3\n" + source)
    (place / "pipelock").chmod(0o755)
    lines = [f"FROM {images['sidecar'].tag}", "USER root", "COPY pipelock /pipelock", 'ENTRYPOINT ["/pipelock"]']
    (place / "Dockerfile").write_text("\n".join(lines))
    with engine.guarded("build a stand-in", timeout=120.0) as api:
        list(api.build(path=str(place), tag=tag, rm=True, decode=True))
    yield tag
    with engine.guarded("remove the stand-in") as api:
        api.remove_image(tag, force=True)


def test_runs_pipelock_as_the_guard(
    engine: Engine, images: dict[str, ImageRef], tmp_path: Path, pipelock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "upstream", lambda name: pipelock)
    monkeypatch.setattr(resolve, "pipelock_available", lambda engine: pipelock)
    hosts = {"inner.example": "10.1.2.3"}
    wish = manifest(egress={"allow": ["example.org", "inner.example"], "hosts": hosts})
    bench = LaunchBench.make(engine, tmp_path, wish)
    try:
        assert (bench.plan.guard, "can be pulled" in bench.plan.guard_reason) == ("pipelock", True)
        bench.proxies()
        bench.mitm()
        with engine.guarded("inspect") as api:
            found = api.inspect_container(bench.one("guard").id)
        assert found["Config"]["User"] == "65534:65534"
        assert found["HostConfig"]["ExtraHosts"] == ["inner.example:10.1.2.3"]
        assert b"startup" in bench.backend.logs(bench.launch, "guard", 5)
    finally:
        bench.clean()


def test_takes_the_builtin_guard_where_pipelock_cannot_be_had(
    bench: LaunchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "pipelock_available", lambda engine: None)
    value = bench.spec.manifest.model_dump(by_alias=True, exclude_defaults=True)
    value["bottles"]["dev"]["egress"]["guard"] = "auto"
    spec = bench.spec.model_copy(update={"manifest": Manifest.model_validate(value)})
    plan = bench.backend.resolve_plan(spec)
    assert (plan.guard, "cannot be pulled" in plan.guard_reason) == ("builtin", True)


def test_says_when_the_engine_does_not_answer(bench: LaunchBench) -> None:
    bench.backend._engine = None
    bench.backend._endpoint = None
    object.__setattr__(bench.backend.host, "environ", {"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    with pytest.raises(EngineUnavailableError, match="no engine answers"):
        bench.backend.observe(bench.launch)


def test_leaves_a_strangers_container_on_its_network_alone(bench: LaunchBench, images: dict[str, ImageRef]) -> None:
    bench.proxies()
    with bench.engine.guarded("a stranger joins") as api:
        config = {"Image": images["agent"].id, "HostConfig": {"NetworkMode": bench.one("net-outside").id}}
        stranger = make_container(api, config, f"guest-{bench.launch.slug}")
        api.start(stranger)
    try:
        with pytest.raises(BackendError, match="members that are not ours: guest-"):
            bench.down()
        with bench.engine.guarded("look") as api:
            assert api.inspect_container(stranger)["State"]["Running"]
    finally:
        with bench.engine.guarded("the stranger leaves") as api:
            api.remove_container(stranger, force=True)
    bench.down()
    assert bench.labelled() == []


@pytest.mark.parametrize(
    ("role", "change"),
    [("guard", "chmod u+w {0} && echo >> {0}"), ("guard", "rm {0}"), ("interceptor", "rm -r $(dirname {0})")],
)
def test_replaces_a_sidecar_whose_files_were_changed_and_keeps_the_agent(
    running: LaunchBench, role: str, change: str
) -> None:
    before = {name: running.one(name).id for name in ("guard", "interceptor", "agent")}
    with running.engine.guarded("change the policy by hand") as api:
        script = change.format(egress_files.POLICY)
        exec_id = api.exec_create(before[role], ["sh", "-c", script], user="0:0")["Id"]
        assert api.exec_start(exec_id) == b""
        assert api.exec_inspect(exec_id)["ExitCode"] == 0
    running.reborn()
    running.up()
    after = {name: running.one(name).id for name in before}
    assert {name for name in before if after[name] != before[name]} == {role}
    (cause,) = [cause for name, cause in running.steps.done if name == f"remove {role}"]
    assert re.search(r"/etc/bottle-fsm/.* inside is not what was copied", cause)
    assert [cause for name, cause in running.steps.done if name == f"create {role}"] == [cause]
    running.backend.observe(running.launch)


def test_replaces_the_guard_whose_tokens_are_of_a_lost_key(bench: LaunchBench) -> None:
    bench.proxies()
    bench.mitm()
    before = bench.one("guard").id
    bench.reborn(seed="another root.key")
    bench.proxies()
    bench.mitm()
    assert bench.one("guard").id != before
    (cause,) = [cause for name, cause in bench.steps.done if name == "remove guard"]
    assert cause.endswith("inside is not what was copied")
    assert bench.backend.drift(bench.plan, bench.launch) == "a container is gone"
