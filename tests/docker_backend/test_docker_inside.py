"""Inside a running bottle: hardening, secrets, reach, copies, time limits, terminals."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from bottle_fsm import inside, naming, transfer
from bottle_fsm.archive import Member, tree_digest
from bottle_fsm.backend.docker import addresses, archive_files
from bottle_fsm.backend.docker import bottle as bottle_module
from bottle_fsm.backend.docker.agent import IDLE
from bottle_fsm.backend.docker.archive_files import MAX_READ, check_files, put_members, read_members
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import connect
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.backend.docker.plan import subnet_fact
from bottle_fsm.bottle import Owner
from bottle_fsm.egress import files as egress_files
from bottle_fsm.errors import BackendError, DriftError, ProvisionError, StepTimeoutError
from docker_backend.launch_bench import CANARY, LaunchBench, make_container

pytestmark = pytest.mark.engine

REFUSED_CALLS = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": dict(keyctl=250, add_key=248, request_key=249, io_uring_setup=425, bpf=321, perf_event_open=298,
    userfaultfd=323, mount=165, unshare=272, setns=308, ptrace=101, process_vm_readv=310)}[os.uname().machine]
for name, number in numbers.items():
    ctypes.set_errno(0)
    first = 0x10000000 if name == "unshare" else 0
    left = libc.syscall(number, first, 0, 0, 0, 0)
    print(name, left, errno.errorcode.get(ctypes.get_errno()))
ctypes.set_errno(0)
print("clone", libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), errno.errorcode.get(ctypes.get_errno()))
for family in (40, 38, 29, 17):
    try:
        socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_STREAM)
        print("socket", family, "open")
    except OSError as error:
        print("socket", family, errno.errorcode[error.errno])
master, slave = os.openpty()
for request in (0x5412, 0x1_0000_5412):
    ctypes.set_errno(0)
    print("tiocsti", libc.syscall(16, slave, ctypes.c_ulong(request), b"x"), errno.errorcode.get(ctypes.get_errno()))
"""


@pytest.fixture(scope="module")
def bottle(running: LaunchBench) -> DockerBottle:
    return running.bottle()


def test_runs_without_capabilities_privileges_and_dangerous_calls(bottle: DockerBottle) -> None:
    users: tuple[Owner, ...] = ("agent", "root")
    for user in users:
        status = bottle.exec(["cat", "/proc/self/status"], user=user).text
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (found["CapEff"], found["CapBnd"], found["CapInh"]) == ("0" * 16, "0" * 16, "0" * 16)
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert bottle.exec(["id", "-u"]).text == "1000"
    lines = bottle.exec(["python3", "-c", REFUSED_CALLS]).text.splitlines()
    assert len(lines) == 19
    assert [line for line in lines if not line.endswith("EPERM")] == []


def test_lets_ordinary_programs_run(bottle: DockerBottle) -> None:
    script = """set -e
cd "$(mktemp -d)"
node -e 'setTimeout(() => console.log("node"), 5)'
npm --version >/dev/null && echo npm
pip --version >/dev/null && echo pip
git init -q . && git -c user.name=a -c user.email=b commit -q --allow-empty -m x && echo git
ssh-keygen -q -t ed25519 -N '' -f key && eval "$(ssh-agent)" >/dev/null && ssh-add -q key && echo ssh
ssh-agent -k >/dev/null
python3 -c 'import threading; t = threading.Thread(target=print, args=("python",)); t.start(); t.join()'
bash -c 'echo bash | (read x; echo $x)'
"""
    result = bottle.exec(["sh", "-c", script])
    assert (result.code, result.text.split()) == (0, ["node", "npm", "pip", "git", "ssh", "python", "bash"]), (
        result.stderr
    )


def test_holds_the_limits_of_the_manifest(running: LaunchBench) -> None:
    with running.engine.guarded("inspect") as api:
        found = api.inspect_container(running.one("agent").id)["HostConfig"]
    assert (found["Memory"], found["NanoCpus"], found["PidsLimit"]) == (256 << 20, 10**9, 64)
    assert found["CapDrop"] == ["ALL"]
    assert found["RestartPolicy"]["Name"] == "no"
    assert not found["Binds"]
    assert not found["Privileged"]


def test_reaps_orphans_as_pid_1(bottle: DockerBottle) -> None:
    bottle.exec(["sh", "-c", "(sleep 0.2 &); exit 0"])
    time.sleep(0.6)
    states = bottle.exec(["sh", "-c", "grep -h State /proc/[0-9]*/status 2>/dev/null; true"]).text
    assert "Z (zombie)" not in states


def test_idles_and_reaps_without_an_init_in_the_image(running: LaunchBench, images: dict[str, ImageRef]) -> None:
    config = {
        "Image": images["agent"].id,
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", IDLE.replace("tini", "no-such-init")],
    }
    with running.engine.guarded("a container without an init") as api:
        container = make_container(api, config, f"no-init-{running.launch.slug}")
        try:
            api.start(container)
            bare = DockerBottle(running.engine, container, name="no-init")
            bare.exec(["sh", "-c", "(sleep 0.2 &); exit 0"])
            time.sleep(0.6)
            states = bare.exec(
                ["sh", "-c", "cat /proc/1/comm; grep -h State /proc/[0-9]*/status 2>/dev/null; true"]
            ).text
            assert states.startswith("sh\n")
            assert "Z (zombie)" not in states
            api.stop(container, timeout=8)
            assert api.inspect_container(container)["State"]["ExitCode"] == 143
        finally:
            api.remove_container(container, force=True)


def test_keeps_secrets_out_of_everything_the_engine_shows(running: LaunchBench) -> None:
    agent = running.one("agent").id
    assert running.bottle().exec(["sh", "-c", 'printf %s "$TOKEN"']).stdout.decode() == CANARY
    tokens = [running.steps.token(purpose).reveal() for purpose in ("scan", "proxy")]
    with running.engine.guarded("look for the canary", timeout=120.0) as api:
        shown = str([api.inspect_container(running.one(role).id) for role in ("agent", "interceptor", "guard")])
        assert "GREETING=hello" in shown
        for secret in (CANARY, *tokens):
            assert secret not in shown
        for role, unwanted in (("agent", [CANARY]), ("interceptor", [CANARY, *tokens]), ("guard", [CANARY])):
            container = running.one(role).id
            for change in api.diff(container) or []:
                assert not change["Path"].startswith("/run/bottle/"), change
            for path in {c["Path"] for c in api.diff(container) or [] if c["Kind"] == 1}:
                stream, _ = api.get_archive(container, path)
                content = b"".join(stream)
                assert not [secret for secret in unwanted if secret.encode() in content], path
        for process in api.top(agent)["Processes"]:
            assert CANARY not in " ".join(process)
    assert running.bottle().exec(["stat", "-c", "%a %u", "/run/bottle/env"]).text == "600 1000"
    assert running.bottle().exec(["cat", "/run/bottle/env"], user="root").code != 0


@contextmanager
def _listener() -> Iterator[int]:
    """Listen on every address of this host, and answer."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.2)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"reached the host")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


_CONNECT = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(99).decode())"


def test_cannot_reach_the_host_at_the_gateway(running: LaunchBench, images: dict[str, ImageRef]) -> None:
    subnet = running.steps.facts[subnet_fact(naming.ROLE_NET_INSIDE)]
    gateway = addresses.address(subnet, addresses.GATEWAY)
    with _listener() as port:
        assert _reaches_an_ordinary_gateway(running, images, port), "the control itself must reach the host"
        result = running.bottle().exec(["python3", "-c", _CONNECT, gateway, str(port)])
        assert result.code != 0
        assert b"reached" not in result.stdout


def _reaches_an_ordinary_gateway(running: LaunchBench, images: dict[str, ImageRef], port: int) -> bool:
    """Do the same from an internal network made the usual way: there the host answers."""
    name = f"control-{running.launch.slug}"
    with running.engine.guarded("control") as api:
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet="203.0.113.16/29", gateway="203.0.113.17")])
        network = api.create_network(name, internal=True, ipam=pool)["Id"]
        try:
            config = {
                "Image": images["agent"].id,
                "Cmd": ["python3", "-c", _CONNECT, "203.0.113.17", str(port)],
                "HostConfig": {"NetworkMode": network},
            }
            container = make_container(api, config, name)
            api.start(container)
            api.wait(container, timeout=30)
            output = api.logs(container)
            api.remove_container(container, force=True)
        finally:
            api.remove_network(network)
    return b"reached the host" in output


def test_returns_outputs_apart_and_the_exit_code(bottle: DockerBottle) -> None:
    result = bottle.exec(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (result.code, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
    assert bottle.exec(["pwd"]).text == "/workspace"
    assert bottle.exec(["pwd"], workdir="/tmp").text == "/tmp"
    assert bottle.exec(["sh", "-c", "echo $X $HOME"], env={"X": "given"}).text == "given /home/agent"
    assert bottle.exec(["sh", "-c", "echo $HOME; id -u"], user="root").text == "/root\n0"
    assert bottle.exec(["no-such-program"]).code == 127


def test_sends_and_receives_more_than_any_buffer(bottle: DockerBottle) -> None:
    content = os.urandom(5 << 20)
    assert bottle.exec(["cat"], stdin=content).stdout == content
    assert bottle.exec(["cat"], stdin=b"").stdout == b""
    assert bottle.exec(["true"], stdin=content).code == 0


def test_kills_inside_what_runs_too_long(bottle: DockerBottle) -> None:
    began = time.monotonic()
    with pytest.raises(StepTimeoutError, match="`sh` ran longer than 1 s and was killed inside"):
        bottle.exec(["sh", "-c", "trap '' TERM; sleep 611 & sleep 612"], timeout=1)
    assert time.monotonic() - began < 8
    assert _processes(bottle, "sleep 61[12]") == []


def test_kills_inside_what_does_not_even_heed_its_wrapper(
    bottle: DockerBottle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "RUN", 'shift 2\n"$@"\n')  # as if `timeout` were broken in the image
    monkeypatch.setattr(transfer, "GRACE", 0.5)
    with pytest.raises(StepTimeoutError):
        bottle.exec(["sleep", "621"], timeout=0.5)
    monkeypatch.undo()
    assert _processes(bottle, "sleep 621") == []


def test_ends_the_commands_of_a_dead_launcher_and_no_others(running: LaunchBench, engine_host: str) -> None:
    agent, bottle = running.one("agent").id, running.bottle()
    script = f"""
import os
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import connect
bottle = DockerBottle(connect({{**os.environ, "DOCKER_HOST": {engine_host!r}}}), {agent!r}, name="agent")
bottle.exec(["sleep", "631"], timeout=600)
"""
    dead = subprocess.Popen([sys.executable, "-c", script])
    alive = subprocess.Popen([sys.executable, "-c", script.replace("631", "641")])
    stays = ["sh", "-c", "until [ -e /tmp/may-go ]; do sleep 0.1; done"]
    person = threading.Thread(target=_session, args=(bottle, stays))
    try:
        person.start()
        _until(lambda: len(_processes(bottle, "sleep 6[34]1")) >= 2 and _processes(bottle, "sh -c until .*may-go"))
        dead.kill()
        dead.wait()
        assert bottle.settle() == 1
        _until(lambda: not [p for p in _processes(bottle, "sleep 631") if "timeout" not in p])
        assert _processes(bottle, "sleep 641")
        assert _processes(bottle, "sh -c until .*may-go")
    finally:
        bottle.exec(["touch", "/tmp/may-go"])
        alive.kill()
        alive.wait()
        person.join()
        assert bottle.settle() == 1


def _session(bottle: DockerBottle, argv: list[str]) -> None:
    with bottle._engine.guarded("a session") as api:
        exec_id = api.exec_create(bottle.container_id, ["sh", "-c", inside.INTERACT, "bottle-session", *argv])["Id"]
        api.exec_start(exec_id)


def _processes(bottle: DockerBottle, pattern: str) -> list[str]:
    listed = bottle.exec(["sh", "-c", "for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline; echo; done"]).text
    return [line.strip() for line in listed.splitlines() if re.search(f"^(timeout .*)?{pattern}", line.strip())]


def _until(done: object, seconds: float = 15.0) -> None:
    assert callable(done)
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


# -- copies ------------------------------------------------------------------------------------------------------------


def test_copies_bytes_in_with_mode_and_owner(bottle: DockerBottle, tmp_path: Path) -> None:
    digest = bottle.copy_in(b"hello", "/home/agent/new/place/file", mode=0o600)
    assert digest == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert bottle.read_file("/home/agent/new/place/file") == b"hello"
    assert bottle.exec(["stat", "-c", "%a %u", "/home/agent/new/place/file"]).text == "600 1000"
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 << 20))
    bottle.copy_in(source, "/opt/from-root", owner="root", mode=0o644)
    assert bottle.read_file("/opt/from-root") == source.read_bytes()
    assert bottle.exec(["stat", "-c", "%a %u", "/opt/from-root"]).text == "644 0"
    assert bottle.exec(["sh", "-c", "ls -a /opt /home/agent/new/place | grep -c .bottle-"]).text == "0"


def test_follows_no_link_that_the_agent_planted(bottle: DockerBottle) -> None:
    bottle.exec(["sh", "-c", "rm -rf ~/.ssh; ln -s /etc ~/.ssh"])
    owners: tuple[Owner, ...] = ("agent", "root")
    for owner in owners:
        with pytest.raises(ProvisionError, match=r"symbolic link stands in the way|belongs to another user"):
            bottle.copy_in(b"evil", "/home/agent/.ssh/config", owner=owner)
    assert bottle.exec(["test", "-e", "/etc/config"]).code == 1
    bottle.exec(["sh", "-c", "rm ~/.ssh; ln -s /etc/passwd ~/target"])
    bottle.copy_in(b"mine", "/home/agent/target")
    assert bottle.exec(["sh", "-c", "test -L ~/target || cat ~/target"]).text == "mine"
    assert b"root:x:0" in bottle.read_file("/etc/passwd")


def test_writes_as_root_only_where_nobody_else_could_move_a_step(bottle: DockerBottle) -> None:
    bottle.exec(["sh", "-c", "mkdir -p /tmp/mine"])
    with pytest.raises(ProvisionError, match="belongs to another user: /home/agent"):
        bottle.copy_in(b"x", "/home/agent/from-root", owner="root")
    with pytest.raises(ProvisionError, match="belongs to another user: /tmp/mine"):
        bottle.copy_in(b"x", "/tmp/mine/x", owner="root")
    bottle.exec(["sh", "-c", "mkdir /opt/open && chmod 777 /opt/open"], user="root")
    with pytest.raises(ProvisionError, match="anyone may write in it"):
        bottle.copy_in(b"x", "/opt/open/x", owner="root")
    with pytest.raises(ProvisionError, match="cannot write in /etc"):
        bottle.copy_in(b"x", "/etc/from-agent")


def test_runs_nothing_of_the_agents_as_root(bottle: DockerBottle) -> None:
    programs = "sh cat timeout head sha256sum mv mkdir stat id tr grep chmod flock rm"
    fake = "'#!/bin/sh\\n/usr/bin/touch /tmp/ran-$(/usr/bin/id -u)\\n'"
    plant = f"""mkdir -p ~/.local/bin && cd ~/.local/bin
for p in {programs}; do printf {fake} > $p; /bin/chmod 755 $p; done"""
    assert bottle.exec(["/bin/sh", "-c", plant]).code == 0
    try:
        assert bottle.exec(["sh", "-c", "pwd; id -u"], user="root").text == "/\n0"
        bottle.copy_in(b"x", "/opt/as-root", owner="root")
        assert bottle.read_file("/opt/as-root") == b"x"
        bottle.kill_marked("nobody", "root")
    finally:
        with bottle._engine.guarded("tidy") as api:
            tidy = api.exec_create(bottle.container_id, ["/bin/rm", "-rf", "/home/agent/.local"], user="1000:1000")
            api.exec_start(tidy["Id"])
    assert bottle.exec(["ls", "/tmp"]).text.split().count("ran-0") == 0


def test_ends_a_command_that_floods_its_output(bottle: DockerBottle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottle_module, "OUTPUT_LIMIT", 1 << 20)
    with pytest.raises(BackendError, match="wrote more than 1 MiB"):
        bottle.exec(["sh", "-c", "cat /dev/zero"])
    assert _processes(bottle, "cat /dev/zero") == []


def test_copies_a_tree_in_and_out(bottle: DockerBottle, tmp_path: Path) -> None:
    source = _tree(tmp_path / "source")
    digest = bottle.copy_in(source, "/home/agent/skills/review")
    assert digest == tree_digest(source)
    assert bottle.copy_in(source, "/home/agent/skills/review") == digest
    bottle.copy_out("/home/agent/skills/review", tmp_path / "back")
    assert tree_digest(tmp_path / "back") == digest
    bottle.copy_out("/etc/hostname", tmp_path / "name")
    assert (tmp_path / "name").is_file()
    with pytest.raises(ProvisionError, match="exists already"):
        bottle.copy_out("/etc/hostname", tmp_path / "name")
    with pytest.raises(ProvisionError, match="cannot copy /nowhere out"):
        bottle.copy_out("/nowhere", tmp_path / "nothing")


def test_merges_a_tree_into_what_is_there(bottle: DockerBottle, tmp_path: Path) -> None:
    bottle.exec(
        ["sh", "-c", "mkdir -p /workspace/deep; echo kept > /workspace/deep/kept; echo old > /workspace/run.sh"]
    )
    bottle.copy_in(_tree(tmp_path / "source"), "/workspace")
    assert bottle.read_file("/workspace/deep/kept") == b"kept\n"
    assert bottle.read_file("/workspace/run.sh") == b"#!/bin/sh\n"
    assert bottle.exec(["stat", "-c", "%a", "/workspace/run.sh"]).text == "755"
    bottle.exec(["sh", "-c", "rm /workspace/run.sh; mkdir /workspace/run.sh"])
    with pytest.raises(ProvisionError, match="a directory stands where a file shall go"):
        bottle.copy_in(tmp_path / "source", "/workspace")
    bottle.exec(["sh", "-c", "rm -rf /workspace/*; ln -s /etc /workspace/deep"])
    with pytest.raises(ProvisionError, match="cannot move it into place"):
        bottle.copy_in(tmp_path / "source", "/workspace")
    bottle.exec(["sh", "-c", "rm -rf /workspace/*; ln -s /etc ~/linked"])
    with pytest.raises(ProvisionError, match="symbolic link stands in the way"):
        bottle.copy_in(tmp_path / "source", "/home/agent/linked")
    bottle.copy_in(tmp_path / "source", "/opt/tree", owner="root")
    bottle.copy_in(tmp_path / "source", "/opt/tree", owner="root")
    assert bottle.exec(["stat", "-c", "%u", "/opt/tree/deep"]).text == "0"


def _tree(root: Path) -> Path:
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file with space").write_text("text")
    (root / ".hidden").write_text("dot")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("deep/file with space")
    return root


def test_notices_bytes_that_did_not_arrive_whole(bottle: DockerBottle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "RUN", inside.RUN.replace('head -c "$n"', "head -c 3"))
    with pytest.raises(ProvisionError, match="other bytes arrived than were sent"):
        bottle.copy_in(b"twelve bytes", "/home/agent/short")
    monkeypatch.undo()
    assert bottle.exec(["sh", "-c", "ls -a ~ | grep -c -e short -e .bottle-"]).text == "0"


def test_reads_as_the_one_who_may(bottle: DockerBottle) -> None:
    bottle.copy_in(b"mine", "/home/agent/private", mode=0o600)
    bottle.copy_in(b"roots", "/opt/private", mode=0o600, owner="root")
    assert (bottle.read_file("/home/agent/private"), bottle.read_file("/opt/private")) == (b"mine", b"roots")
    with pytest.raises(ProvisionError, match="no such file"):
        bottle.read_file("/opt/nothing")
    with pytest.raises(ProvisionError, match="no plain absolute path"):
        bottle.read_file("/opt/../etc/passwd")


def test_reads_back_what_an_archive_copy_left(running: LaunchBench) -> None:
    agent, engine = running.one("agent").id, running.engine
    put_members(engine, agent, {"/opt/archive/a": Member(b"whole", 0o644)}, name="agent")
    check_files(engine, agent, {"/opt/archive/a": b"whole"}, name="agent")
    with pytest.raises(DriftError, match="is not what was copied"):
        check_files(engine, agent, {"/opt/archive/a": b"other"}, name="agent")
    running.bottle().exec(["sh", "-c", "ln -s /etc /opt/archive/l"], user="root")
    assert read_members(engine, agent, "/opt/archive", name="agent") == {"/opt/archive/a": b"whole"}
    running.bottle().exec(["sh", "-c", f"head -c {MAX_READ + 1} /dev/zero > ~/huge"])
    with pytest.raises(DriftError, match="larger than it can be"):
        read_members(engine, agent, "/home/agent/huge", name="agent")


def test_brings_hostile_archives_out_safely(bottle: DockerBottle, tmp_path: Path) -> None:
    bottle.exec(
        ["sh", "-c", "mkdir -p ~/out && cd ~/out && ln -s /etc/passwd leak && mkfifo pipe && echo x > a && ln a b"]
    )
    bottle.copy_out("/home/agent/out", tmp_path / "out")
    assert not (tmp_path / "out" / "leak").is_symlink()
    assert (tmp_path / "out" / "leak").read_text() == "/etc/passwd"
    assert (tmp_path / "out" / "b").read_text() == "x\n"
    assert not (tmp_path / "out" / "pipe").exists()


def test_forwards_nothing_and_fails_fast_in_all_three_containers(running: LaunchBench, bottle: DockerBottle) -> None:
    for role in ("guard", "interceptor", "agent"):
        found = _read(running, role, "cat /proc/sys/net/ipv4/ip_forward")
        assert (role, found) == (role, b"0\n")
    neighbour = "/proc/sys/net/ipv4/neigh/eth0"
    assert _read(running, "agent", f"cat {neighbour}/retrans_time_ms {neighbour}/mcast_solicit") == b"200\n1\n"
    result = bottle.exec(["python3", "-c", _TIMED_CONNECT])
    error, seconds = result.text.split()
    assert error in {"EHOSTUNREACH", "ENETUNREACH"}
    assert float(seconds) < 1.0


_TIMED_CONNECT = """
import errno, socket, time
began = time.monotonic()
try:
    socket.create_connection(("203.0.113.7", 443), 30)
except OSError as error:
    print(errno.errorcode.get(error.errno), time.monotonic() - began)
"""


def _read(running: LaunchBench, role: str, script: str) -> bytes:
    """Run a command in any of the three containers as the user that it is of."""
    with running.engine.guarded("read inside") as api:
        exec_id = api.exec_create(running.one(role).id, ["sh", "-c", script])["Id"]
        output = bytes(api.exec_start(exec_id))
        assert api.exec_inspect(exec_id)["ExitCode"] == 0, output
    return output


def test_keeps_the_ca_key_in_the_interceptor_alone(running: LaunchBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_files, "MAX_READ", 1 << 30)  # whatever other tests have left in the agent's home
    key = _read(running, "interceptor", f"cat {egress_files.CA_DIR}/mitmproxy-ca.pem")
    blocks = re.findall(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.+?)-----END", key, re.DOTALL)
    (body,) = [block.replace(b"\n", b"") for block in blocks]
    assert len(body) > 1000
    assert _holders(running, "interceptor", body) == [f"{egress_files.CA_DIR}/mitmproxy-ca.pem"]
    assert (_holders(running, "agent", body), _holders(running, "guard", body)) == ([], [])


def _holders(running: LaunchBench, role: str, body: bytes) -> list[str]:
    """Return the files of a container that hold a key: whatever its layers have that the image did not, and tmpfs."""
    found = []
    container = running.one(role).id
    with running.engine.guarded("look for the key", timeout=120.0) as api:
        roots = {change["Path"] for change in api.diff(container) or [] if change["Kind"] != 2}
        tops = [path for path in roots if not any(path.startswith(other + "/") for other in roots if other != path)]
        for top in tops:
            for path, content in read_members(running.engine, container, top, name=role).items():
                found += [path] if _holds(content, body) else []
    for mount in ("/run", "/tmp", "/dev/shm"):
        script = f"find {mount} -type f -exec cat {{}} + 2>/dev/null; true"
        found += [mount] if _holds(_read(running, role, script), body) else []
    return found


def _holds(content: bytes, body: bytes) -> bool:
    """Tell whether the middle of a key is in a text, however its lines are broken, or its bytes as DER."""
    middle = body[400:480]
    return middle in re.sub(rb"\s", b"", content) or base64.b64decode(middle) in content


def test_lets_an_image_go_after_a_copy_that_was_broken_off(
    running: LaunchBench, images: dict[str, ImageRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"bench-broken-off:{running.launch.slug}"[:100]
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    (tmp_path / "Dockerfile").write_text(f"FROM {images['agent'].id}\nCOPY big /opt/big\n")
    engine = running.engine
    with engine.guarded("build", timeout=120.0) as api:
        list(api.build(path=str(tmp_path), tag=tag, rm=True, decode=True))
        container = make_container(api, {"Image": tag, "Cmd": ["sleep", "300"]}, f"broken-off-{running.launch.slug}")
        api.start(container)
    try:
        other = DockerBottle(engine, container, name="broken-off")
        with monkeypatch.context() as patch:
            patch.setattr(archive_files, "io", Breaking)
            with pytest.raises(RuntimeError, match="broken off"):
                read_members(engine, container, "/opt/big", name="broken-off")
        with monkeypatch.context() as patch:
            patch.setattr(archive_files, "MAX_READ", 1 << 20)
            with pytest.raises(DriftError, match="larger than it can be"):
                read_members(engine, container, "/opt/big", name="broken-off")
        with monkeypatch.context() as patch:
            patch.setattr(transfer, "tempfile", Breaking)
            with pytest.raises(RuntimeError, match="broken off"):
                other.copy_out("/opt/big", tmp_path / "out")
    finally:
        began = time.monotonic()
        with engine.guarded("remove", timeout=60.0) as api:
            api.remove_container(container, force=True)
            api.remove_image(tag)
    assert time.monotonic() - began < 5.0


class Breaking:
    """A reader's buffer that breaks in the middle of a stream."""

    class BytesIO(io.BytesIO):
        def write(self, data: Any, /) -> int:
            if self.tell() > 1 << 20:
                raise RuntimeError("broken off")
            return super().write(data)

    TemporaryFile = BytesIO


def test_takes_two_copies_into_one_place_one_after_the_other(bottle: DockerBottle) -> None:
    contents = [bytes([letter]) * (3 << 20) for letter in b"ab"]
    target = "/home/agent/contended/file"
    failures: list[BaseException] = []

    def copy(content: bytes) -> None:
        try:
            for _ in range(3):
                bottle.copy_in(content, target)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=copy, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)
    assert bottle.read_file(target) in contents
    assert bottle.exec(["ls", "-A", "/home/agent/contended"]).text == "file"


# -- terminals ---------------------------------------------------------------------------------------------------------

_INTERACT = """
import os, sys
from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import connect
bottle = DockerBottle(connect({**os.environ, "DOCKER_HOST": sys.argv[1]}), sys.argv[2], name="agent")
sys.exit(bottle.interact(sys.argv[4:], tty=sys.argv[3] == "tty"))
"""


def _interact(engine_host: str, agent: str, tty: str, *argv: str) -> list[str]:
    return [sys.executable, "-c", _INTERACT, engine_host, agent, tty, *argv]


def test_joins_a_real_terminal(running: LaunchBench, engine_host: str) -> None:
    script = "stty size; echo secret-is-$TOKEN; read -r line; trap 'echo int; exit 9' INT; echo got:$line; sleep 60"
    agent = running.one("agent").id
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, _interact(engine_host, agent, "tty", "sh", "-c", script))
    seen = b""
    try:
        os.set_blocking(master, True)
        seen = _read_until(master, seen, b"secret-is-" + CANARY.encode())
        os.write(master, b"typed\n")
        seen = _read_until(master, seen, b"got:typed")
        os.write(master, b"\x03")
        seen = _read_until(master, seen, b"int\r\n")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 9, seen
    finally:
        os.close(master)
    assert re.search(rb"\d+ \d+\r\n", seen)


def test_follows_the_window_and_passes_signals_on(running: LaunchBench, engine_host: str) -> None:
    script = "trap 'stty size' WINCH; trap 'echo int; exit 4' INT; echo up; while :; do sleep 0.1; done"
    agent = running.one("agent").id
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, _interact(engine_host, agent, "tty", "bash", "-c", script))
    try:
        seen = _read_until(master, b"", b"up")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 97, 0, 0))
        seen = _read_until(master, seen, b"41 97")
        os.kill(pid, signal.SIGINT)
        seen = _read_until(master, seen, b"int")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 4, seen
    finally:
        os.close(master)


def _read_until(descriptor: int, seen: bytes, wanted: bytes) -> bytes:
    deadline = time.monotonic() + 20
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, (wanted, seen)
        try:
            seen += os.read(descriptor, 4096)
        except OSError:
            pytest.fail(f"the terminal closed before {wanted!r}: {seen!r}")
    return seen


def test_joins_pipes_and_passes_the_exit_code(running: LaunchBench, engine_host: str, tmp_path: Path) -> None:
    agent = running.one("agent").id
    command = _interact(engine_host, agent, "pipes", "sh", "-c", "cat; echo err >&2; exit 3")
    done = subprocess.run(command, input=b"through a pipe" * 9999, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"through a pipe" * 9999, b"err\n")
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    with source.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, b"from a file")
    silent = _interact(engine_host, agent, "pipes", "true")
    assert (
        subprocess.run(silent, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).returncode == 0
    )


class Forwarder:
    """TCP in front of a Unix socket, with half-closed connections passed on."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.2)
        self._stop = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._stop.set()
        self._threads[0].join()
        self._server.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for end in self._ends:
            end.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self._path)
            self._ends += [client, upstream]
            for ends in ((client, upstream), (upstream, client)):
                self._threads.append(threading.Thread(target=self._pump, args=ends))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def tcp_host(engine_host: str) -> Iterator[str]:
    """The same engine, reached by TCP."""
    forwarder = Forwarder(engine_host.removeprefix("unix://"))
    yield forwarder.url
    forwarder.close()


def test_works_over_tcp_as_well(running: LaunchBench, tcp_host: str) -> None:
    agent = running.one("agent").id
    remote = connect({"DOCKER_HOST": tcp_host})
    try:
        bottle = DockerBottle(remote, agent, name="agent")
        content = os.urandom(1 << 20)
        assert bottle.exec(["cat"], stdin=content).stdout == content
        bottle.copy_in(content, "/home/agent/by-tcp")
        assert bottle.read_file("/home/agent/by-tcp") == content
    finally:
        remote.close()
    command = _interact(tcp_host, agent, "pipes", "sh", "-c", "cat; exit 5")
    done = subprocess.run(command, input=b"half closed", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (5, b"half closed")
