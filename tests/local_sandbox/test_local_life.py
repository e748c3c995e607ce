"""How sandboxes live and end: outliving their launcher, killed in parts, robbed of files, and never left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.backend.local import proc
from cli_shell import PROGRAM
from local_sandbox.local_bench import Tenant

ROLES = ("guard", "interceptor", "agent")
GUEST = "walls/guest"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """One place for all tests whose damage the next `apply` mends."""
    made = Tenant(tmp_path_factory.mktemp("lasting"))
    yield made
    made.clean()


def up(tenant: Tenant) -> None:
    """Launch its bottle, or mend it."""
    tenant.ok("apply", tenant.write(), "--backend", "local")


def kill(known: proc.Known) -> None:
    os.kill(known.pid, signal.SIGKILL)
    wait_for(lambda: not proc.is_alive(known), f"the end of {known.pid}")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_outlives_its_launcher_and_its_supervisors(tenant: Tenant) -> None:
    up(tenant)
    assert len(tenant.supervisors()) == len(ROLES)
    for supervisor in tenant.supervisors():
        kill(supervisor.known)
    assert tenant.inside("curl -sS https://gate.bottle-fsm.internal/ | head -c 20")
    assert "nothing to do" in tenant.ok("apply", tenant.write(), "--backend", "local").err
    inits = [tenant.known(role) for role in ROLES]
    tenant.ok("destroy", GUEST, "--yes")
    assert not [known for known in inits if proc.is_alive(known)]
    assert tenant.left() == []


def test_finds_and_ends_what_lost_its_directory_and_its_supervisor(tenant: Tenant) -> None:
    up(tenant)
    init = tenant.known("agent")
    for supervisor in tenant.supervisors():
        kill(supervisor.known)
    shutil.rmtree(tenant.directory("agent"))
    assert proc.is_alive(init)
    tenant.ok("destroy", GUEST, "--yes")
    assert not proc.is_alive(init)
    assert tenant.left() == []


def test_lists_a_supervisor_whose_directory_was_taken_away(tenant: Tenant) -> None:
    up(tenant)
    init = tenant.known("guard")
    shutil.rmtree(tenant.directory("guard"))
    assert proc.is_alive(init)
    tenant.ok("destroy", GUEST, "--yes")
    assert not proc.is_alive(init)
    assert tenant.left() == []


@pytest.mark.parametrize("role", ROLES)
def test_notices_a_death_and_mends_it_without_touching_the_agents_work(role: str, lasting: Tenant) -> None:
    up(lasting)
    lasting.inside("echo precious > /workspace/work.txt")
    before = lasting.directory("agent").stat().st_ino
    kill(lasting.known(role))
    drift = lasting.run("status", GUEST, "--drift")
    assert "exited" in drift.out + drift.err
    lasting.ok("apply", lasting.write(), "--backend", "local")
    assert lasting.inside("cat /workspace/work.txt") == "precious"
    assert lasting.directory("agent").stat().st_ino == before, "started again, not made again"
    assert lasting.inside("curl -sS https://gate.bottle-fsm.internal/ >/dev/null && echo trusted") == "trusted"


def test_lets_nothing_out_while_a_sidecar_is_dead(lasting: Tenant) -> None:
    up(lasting)
    kill(lasting.known("interceptor"))
    ended = lasting.door().exec(["curl", "-sS", "-m", "5", "https://gate.bottle-fsm.internal/"])
    assert ended.code != 0
    assert lasting.door().exec(["bash", "-c", "exec 3<>/dev/tcp/198.51.100.1/443"]).code != 0


def test_leaves_nothing_after_processes_were_killed_at_random(tenant: Tenant) -> None:
    """Launchers, supervisors and sandboxes, at random moments of launches; the seed is printed when it fails."""
    seed = random.randrange(1 << 30)
    chosen = random.Random(seed)
    for _ in range(4):
        launcher = subprocess.Popen(
            [PROGRAM, "apply", str(tenant.write()), "--backend", "local", "--json"],
            env=tenant.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chosen.uniform(0.2, 3.0))
        for supervisor in tenant.supervisors():
            if chosen.random() < 0.4:
                os.kill(supervisor.known.pid, signal.SIGKILL)
        launcher.kill()
        launcher.wait()
        if chosen.random() < 0.5:
            ended = tenant.run("resume", GUEST)
            assert "Traceback" not in ended.err, (seed, ended.err)
    assert tenant.run("destroy", "--all", "--yes").code == 0, seed
    assert tenant.left() == [], seed


def test_ends_a_command_with_the_launcher_that_asked_for_it(walls: Tenant) -> None:
    asked = subprocess.Popen([PROGRAM, "exec", GUEST, "--", "sleep", "4711"], env=walls.env, stdout=subprocess.DEVNULL)
    wait_for(lambda: "sleep 4711" in walls.inside("ps axo args"), "the command to begin")
    asked.kill()
    asked.wait()
    wait_for(lambda: "sleep 4711" not in walls.inside("ps axo args"), "the command to end")


def test_believes_no_process_after_a_reboot(lasting: Tenant) -> None:
    """The record of another boot is what a reboot leaves; its pids may be anybody's by now."""
    up(lasting)
    for role in ROLES:
        kill(lasting.known(role))
        path = lasting.directory(role) / "state.json"
        value = json.loads(path.read_bytes())
        stranger = proc.identify(os.getpid())
        assert stranger is not None
        path.write_text(json.dumps({**stranger.to_json(), "boot": "00000000-0000-4000-8000-000000000000"}))
        assert value["boot"] == proc.boot_id()
    assert "exited" in lasting.run("status", GUEST, "--drift").out
    lasting.ok("apply", lasting.write(), "--backend", "local")
    assert lasting.inside("echo up") == "up"


def test_believes_no_marker_from_another_pid_namespace(lasting: Tenant) -> None:
    up(lasting)
    mark = next(p for p in lasting.supervisors())
    faker = subprocess.Popen(
        ["unshare", "--user", "--pid", "--fork", "--map-root-user", "sleep", "60"],
        env={**lasting.env, "BOTTLE_FSM_OBJECT": "forged", "BOTTLE_FSM_LABELS": mark.environ["BOTTLE_FSM_LABELS"]},
    )
    try:
        wait_for(lambda: children(faker.pid), "the process in another namespace")
        (inner,) = children(faker.pid)
        assert inner not in {p.known.pid for p in proc.scan("BOTTLE_FSM_OBJECT")}
    finally:
        faker.kill()
        faker.wait()


def test_runs_several_bottles_side_by_side_and_destroys_all(tenant: Tenant) -> None:
    agents = {f"g{n}": {"bottle": "room", "command": ["bash"]} for n in range(3)}
    tenant.ok("apply", tenant.write(**agents), "--backend", "local", "--parallel", "3")
    names = {tenant.directory("agent", f"walls/g{n}").name for n in range(3)}
    assert len(names) == 3
    assert len(tenant.supervisors()) == 3 * len(ROLES)
    tenant.ok("destroy", "--all", "--yes")
    assert tenant.left() == []


def test_takes_back_what_the_agent_locked_and_what_is_deeper_than_a_path_is_long(tenant: Tenant) -> None:
    up(tenant)
    tenant.inside("mkdir -p /workspace/a/b && touch /workspace/a/b/c && chmod 0 /workspace/a/b /workspace/a")
    tenant.inside("ln -s / /workspace/everything")
    script = "import os\nfor _ in range(2000): os.mkdir('deep'); os.chdir('deep')\nos.chmod('.', 0)"
    tenant.inside(f'cd /workspace && /usr/bin/python3 -c "{script}"')
    tenant.ok("destroy", GUEST, "--yes")
    assert tenant.left() == []
    assert Path("/usr").is_dir()


def test_keeps_a_log_small_that_is_written_without_end(lasting: Tenant) -> None:
    up(lasting)
    log = lasting.directory("guard") / "log"
    with log.open("ab") as file:
        file.write(b"x" * (5 << 20) + b"\nthe newest line\n")
    wait_for(lambda: log.stat().st_size < 3 << 20, "the log to be cut")
    assert b"the newest line" in log.read_bytes()
    assert "newest line" in lasting.ok("logs", GUEST, "--role", "guard").out
