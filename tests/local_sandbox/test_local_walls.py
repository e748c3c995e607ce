"""What an agent on this machine's own kernel can see and do: tried from inside, in processes really started there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from bottle_fsm.backend.local import proc
from local_sandbox.local_bench import SECRET, Tenant

SYSCALL = "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); r = l.syscall({}); print(r, ctypes.get_errno())"


def python(script: str) -> str:
    return f"/usr/bin/python3 -c '{script}'"


def test_runs_commands_without_any_power(walls: Tenant) -> None:
    status = walls.inside("cat /proc/self/status")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{name}:\s+0+$", status, re.MULTILINE), status
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert walls.inside("id -u") == "1000"


def test_holds_in_memory_at_most_what_the_manifest_gives(walls: Tenant) -> None:
    sizes = walls.inside("df -BM --output=size /tmp /var /run | tail -n +2").split()
    assert sizes == ["512M"] * 3


@pytest.mark.parametrize("role", ["agent", "interceptor", "guard"])
def test_is_nowhere_root_on_this_machine(walls: Tenant, role: str) -> None:
    words = Path(f"/proc/{walls.known(role).pid}/uid_map").read_text().split()
    outside = [int(word) for word in words[1::3]]
    assert 0 not in outside
    if os.geteuid() == 0:
        assert all(uid >= 1_879_048_192 for uid in outside), "users that nobody else has"
    else:
        assert outside == [os.geteuid()]


def test_gives_each_role_a_user_of_its_own_when_root_launches(walls: Tenant) -> None:
    if os.geteuid() != 0:
        pytest.skip("who is no root has one user to give")
    roles = ("agent", "interceptor", "guard")
    maps = {Path(f"/proc/{walls.known(role).pid}/uid_map").read_text().split()[1] for role in roles}
    assert len(maps) == 3


@pytest.mark.parametrize(
    ("what", "script"),
    [
        ("remount", "mount -o remount,rw /usr"),
        ("mount", "mount -t tmpfs none /tmp"),
        ("a user namespace", "unshare -U true"),
        ("a network namespace", "unshare -rn true"),
        ("a sandbox in the sandbox", "bwrap --unshare-all --ro-bind / / true"),
        ("a write below /usr", "touch /usr/x"),
        ("a write to /etc", "echo x >> /etc/passwd"),
        ("a write to the trust store", "touch /usr/local/share/ca-certificates/evil.crt"),
        ("a write to the root", "touch /x"),
        ("a device", "mknod /tmp/x b 8 0"),
        ("a socket in the door", "rm -f /run/door/proxy.sock"),
        ("a link in the door", "ln -s /etc /run/door/way"),
        ("another owner", "chown 0 /tmp"),
        ("the clock", "date -s 2020-01-01"),
        ("the host's name", "hostname evil"),
        ("the kernel's log", "dmesg"),
    ],
)
def test_refuses(what: str, script: str, walls: Tenant) -> None:
    assert walls.door().exec(["sh", "-c", script]).code != 0, what


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("keyctl", "250, 0, 0"),
        ("bpf", "321, 0, 0, 0"),
        ("io_uring_setup", "425, 1, 0"),
        ("userfaultfd", "323, 0"),
        ("perf_event_open", "298, 0, 0, -1, -1, 0"),
        ("ptrace", "101, 0, 0, 0, 0"),
        ("setns", "308, 0, 0"),
        ("clone with a namespace", "56, 0x10000011, 0, 0, 0, 0"),
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_lets_no_dangerous_call_through(name: str, call: str, walls: Tenant) -> None:
    assert walls.inside(python(SYSCALL.format(call))) == "-1 1", name


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_says_that_there_is_no_clone3_so_that_threads_still_start(walls: Tenant) -> None:
    assert walls.inside(python(SYSCALL.format("435, 0, 0"))) == "-1 38"
    script = "import threading; t = threading.Thread(target=print, args=(1,)); t.start()"
    assert walls.inside(python(script)) == "1"


@pytest.mark.parametrize("request_bits", [0x5412, 0x1_0000_5412, 0x541C])
def test_types_nothing_into_a_terminal(request_bits: int, walls: Tenant) -> None:
    script = f"""import ctypes; l = ctypes.CDLL(None, use_errno=True)
print(l.ioctl(0, ctypes.c_ulong({request_bits}), b"x"), ctypes.get_errno())"""
    assert walls.inside(python(script)) == "-1 1"


def test_gains_nothing_from_setuid_programs(walls: Tenant) -> None:
    found = walls.inside("find /usr/bin /usr/sbin -perm -4000 | head -3").split()
    assert found, "this machine has setuid programs to try"
    assert walls.inside("cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; /tmp/id -u") == "1000"
    assert "root" not in walls.inside("su -c id </dev/null; true").split("uid=")[-1][:10]


def test_sees_no_process_of_this_machine(walls: Tenant) -> None:
    numbers = {int(n) for n in walls.inside("ls /proc").split() if n.isdecimal()}
    assert 1 in numbers
    assert len(numbers) < 12
    assert "from inner.process import begin" in walls.inside("cat /proc/1/cmdline | tr '\\0' ' '")


def test_cannot_look_into_its_first_process(walls: Tenant) -> None:
    for path in ("environ", "mem", "maps", "fd/0", "root", "cwd"):
        assert walls.door().exec(["sh", "-c", f"head -c 1 /proc/1/{path} || ls /proc/1/{path}/"]).code != 0, path
    assert walls.door().exec(["sh", "-c", "kill -9 1; kill -0 1"]).code == 0, "nor end it"


def test_sees_no_file_of_any_home(walls: Tenant) -> None:
    assert walls.inside("ls /home") == "agent"
    assert walls.door().exec(["ls", "/root"]).code != 0
    assert walls.door().exec(["ls", str(walls.home)]).code != 0
    places = "/ /home /run /tmp /var /opt /mnt /media /srv /workspace"
    assert walls.inside(f"find {places} -xdev -name diary.txt 2>/dev/null") == ""


def test_sees_no_socket_but_its_way_out(walls: Tenant) -> None:
    found = walls.inside("find / -type s 2>/dev/null | sort").split()
    assert found == ["/run/door/proxy.sock", "/run/door/relay.sock"]


def test_sees_no_abstract_socket_of_this_machine(walls: Tenant) -> None:
    name = f"bottle-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        script = f'import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + "{name}")'
        assert "ConnectionRefusedError" in walls.inside(python(script))


def test_has_loopback_and_no_other_interface(walls: Tenant) -> None:
    assert walls.inside("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '") == "lo"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert walls.door().exec(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]).code != 0


def test_hands_out_exactly_the_environment_of_the_plan(walls: Tenant) -> None:
    planned = json.loads((walls.directory("agent") / "object.json").read_bytes())["env"]
    names = set(walls.inside("env -0 | tr '\\0' '\\n' | cut -d= -f1").split())
    assert names - {"BOTTLE_CANARY", "BOTTLE_EXEC", "PWD", "TOKEN", "_", "SHLVL", "OLDPWD"} == set(planned)
    assert walls.inside("printenv TOKEN") == SECRET
    assert SECRET not in json.dumps(planned)


def test_loads_nothing_into_the_programs_that_build_the_wall(tenant: Tenant) -> None:
    """A library named in the manifest's variables must meet only what runs inside: outside, that would be root."""
    path = tenant.write()
    manifest = json.loads(path.read_text())
    manifest["bottles"]["room"]["env"]["LD_PRELOAD"] = "/nowhere/evil.so"
    path.write_text(json.dumps(manifest))
    tenant.ok("apply", path, "--backend", "local")
    pid = tenant.supervisors()[0].known.pid
    outside = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert outside
    for child in outside:
        assert b"LD_PRELOAD" not in Path(f"/proc/{child}/environ").read_bytes()
    complaints = (tenant.directory("agent") / "log").read_text().count("evil.so")
    assert complaints == 1, "the first process inside alone; unshare, setpriv and bwrap would have complained, too"


def test_shows_the_secret_to_nobody_outside(walls: Tenant) -> None:
    for path in walls.state.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    for line in subprocess.run(["ps", "axeww"], capture_output=True, check=True).stdout.splitlines():
        assert SECRET.encode() not in line or str(walls.known().pid).encode() in line or b"pytest" in line


def test_gives_no_descriptor_of_the_launcher_to_a_command(walls: Tenant) -> None:
    assert walls.inside("ls /proc/self/fd | tr '\\n' ' '").split() == ["0", "1", "2", "3"]


def test_holds_the_number_of_processes(walls: Tenant) -> None:
    script = "for i in $(seq 1 400); do sleep 3 & done; wait"
    assert "fork" in walls.inside(f"sh -c '{script}'", seconds=25.0).lower()


def test_confines_the_interceptor_to_the_guards_socket(walls: Tenant) -> None:
    assert walls.inside("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", role="interceptor") == "lo"
    found = walls.inside("find / -type s 2>/dev/null | sort", role="interceptor").split()
    ways = ["/run/door/proxy.sock", "/run/door/relay.sock", "/run/guard/proxy.sock", "/run/guard/scan.sock"]
    assert found == [*ways, "/var/lib/bottle-fsm/health.sock"]
    assert walls.door("interceptor").exec(["sh", "-c", "rm /run/guard/proxy.sock"]).code != 0


def test_listens_on_no_port_of_this_machine(walls: Tenant) -> None:
    inodes = set()
    for member in proc.members(walls.known("guard").pidns):
        try:
            links = list(Path(f"/proc/{member}/fd").iterdir())
        except PermissionError:  # only root may look into the helper, which has nothing to listen for here
            assert member == walls.known("guard").pid
            continue
        for link in links:
            with suppress(OSError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    assert inodes, "the guard's own descriptors were seen"
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    assert not [words for words in listening if words[3] == "0A" and words[9] in inodes]


def test_lets_nobody_else_into_the_sockets_directories(walls: Tenant) -> None:
    top = walls.state
    assert top.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        path = walls.directory("net-between") / "sockets" / "proxy.sock"
        script = f"import os; os.stat('{path}')"
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr
    assert sys.platform == "linux"
