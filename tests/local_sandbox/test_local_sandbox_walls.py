from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from bottle_fsm.backend.local.sandbox import Bind
from local_sandbox.sandbox_room import Room

STATUS = """
import json
print(json.dumps(dict(l.strip().replace("\\t", "").split(":", 1) for l in open("/proc/self/status"))))
"""


def test_a_program_has_no_capability_no_new_privilege_and_a_filter(room: Room) -> None:
    status = room.report(STATUS)
    sets = [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    assert sets == ["0" * 16] * 5
    assert (status["NoNewPrivs"], status["Seccomp"], status["Uid"]) == ("1", "2", "1000" * 4)


def test_only_the_loopback_is_there_and_the_world_is_unreachable_at_once(room: Room) -> None:
    names, code = room.report("""
import json, socket
names = [l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]]
s = socket.socket(); s.settimeout(5)
print(json.dumps([names, s.connect_ex(("198.51.100.1", 80))]))
""")
    assert names == ["lo"]
    assert code == errno.ENETUNREACH


def test_the_guards_sandbox_shares_the_hosts_network_and_nothing_else(room: Room) -> None:
    names, host_pid = room.report(
        f"""
import json, os
names = [l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]]
print(json.dumps([names, os.path.exists("/proc/{os.getpid()}")]))
""",
        network=True,
    )
    assert sorted(names) == sorted(name for _, name in socket.if_nameindex())
    assert host_pid is False


def test_no_process_of_the_host_is_seen(room: Room) -> None:
    pids, me = room.report(
        'import json, os; print(json.dumps([[int(n) for n in os.listdir("/proc") if n.isdecimal()], os.getpid()]))'
    )
    assert (pids, me) == ([1], 1)


def test_only_the_system_and_what_is_bound_is_there(room: Room) -> None:
    found = room.report("""
import json, os
print(json.dumps({p: sorted(os.listdir(p)) for p in ("/", "/dev", "/run", "/var", "/tmp", "/opt")}))
""")
    system = {name for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") if Path("/", name).exists()}
    assert set(found["/"]) == {"usr", "proc", "dev", "tmp", "run", "var", "etc", "opt", *system}
    assert set(found["/dev"]) == {
        *("null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "core"),
        *("stdin", "stdout", "stderr"),
    }
    assert (found["/run"], found["/var"], found["/tmp"], found["/opt"]) == (
        ["bottle"],
        ["run", "tmp"],
        [],
        ["bottle-fsm"],
    )


def test_a_link_in_a_bound_directory_leads_nowhere_on_the_host(room: Room) -> None:
    home = room.place("home")
    secret = room.place("host-home") / "id_ed25519"
    secret.write_text("KEY")
    secret.chmod(0o644)
    for name, target in (("link", secret), ("up", Path("../host-home/id_ed25519")), ("root", Path("/proc/1/root"))):
        (home / name).symlink_to(target)
    found = room.report(
        f"""
import json, os
places = ["link", "up", "root{secret}", "root/proc/1/root{secret}"]
print(json.dumps([os.path.exists("/home/agent/" + p) for p in places] + [sorted(os.listdir("/home/agent"))]))
""",
        binds=[Bind(str(home), "/home/agent", writable=True)],
    )
    assert found == [False, False, False, False, ["link", "root", "up"]]


def test_the_system_and_etc_cannot_be_written_and_its_own_places_can(room: Room) -> None:
    answers = room.report("""
import json, os
def write(p):
    try:
        open(p + "/made", "w").close()
    except OSError as e:
        return e.strerror
    return "written"
places = ["/", "/usr", "/usr/local/bin", "/etc", "/etc/ssl/certs", "/opt/bottle-fsm", "/dev"]
places += ["/tmp", "/var/tmp", "/run/bottle", "/dev/shm"]
print(json.dumps({p: write(p) for p in places} | {"mode": oct(os.stat("/run/bottle").st_mode & 0o7777)}))
""")
    refused = "Read-only file system"
    assert answers == {
        **dict.fromkeys(("/", "/usr", "/usr/local/bin", "/etc", "/etc/ssl/certs", "/opt/bottle-fsm", "/dev"), refused),
        **dict.fromkeys(("/tmp", "/var/tmp", "/run/bottle", "/dev/shm"), "written"),
        "mode": "0o700",
    }


def test_what_lives_in_memory_is_bounded(room: Room) -> None:
    sizes = room.report("""
import json, os
places = ["/tmp", "/var", "/run", "/run/bottle", "/dev/shm"]
print(json.dumps({p: s.f_blocks * s.f_frsize >> 20 for p, s in ((p, os.statvfs(p)) for p in places)}))
""")
    assert sizes == {"/tmp": 256, "/var": 256, "/run": 256, "/run/bottle": 16, "/dev/shm": 64}


@pytest.mark.parametrize("without_filter", [False, True])
def test_mounts_cannot_be_changed_even_without_the_filter(room: Room, without_filter: bool) -> None:
    answers = room.report(
        """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT, MS_BIND = 32, 4096
def mount(source, target, flags):
    libc.mount(source, target, None, flags, None)
    return ctypes.get_errno()
def umount(target):
    libc.umount2(target, 2)
    return ctypes.get_errno()
print(json.dumps([mount(b"none", b"/usr", MS_REMOUNT | MS_BIND), mount(b"/tmp", b"/usr", MS_BIND), umount(b"/etc")]))
""",
        without=("--seccomp", "{seccomp}") if without_filter else (),
    )
    assert answers == [errno.EPERM] * 3


@pytest.mark.parametrize("without_filter", [False, True])
def test_no_new_user_namespace_is_made_even_without_the_filter(room: Room, without_filter: bool) -> None:
    code, problem = room.report(
        """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps([libc.unshare(0x10000000), os.strerror(ctypes.get_errno())]))
""",
        without=("--seccomp", "{seccomp}") if without_filter else (),
    )
    assert code == -1
    assert problem == ("No space left on device" if without_filter else "Operation not permitted")


def test_the_environment_is_exactly_what_was_given(room: Room) -> None:
    done = room.run(room.words(("/usr/bin/env",)), env={"PATH": "/usr/bin", "ONLY": "this"})
    assert sorted(done.stdout.split()) == ["ONLY=this", "PATH=/usr/bin", "PWD=/"]


def test_a_setuid_program_of_the_system_gains_nothing(room: Room) -> None:
    setuid = [path for path in map(Path, ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd")) if path.exists()]
    assert setuid
    assert all(path.stat().st_mode & stat.S_ISUID for path in setuid)
    done = room.run(room.words(("/usr/bin/su", "-c", "id -u")))
    assert done.returncode != 0
    assert "0" not in done.stdout.split()


def test_a_setuid_program_in_a_bound_directory_gains_nothing(room: Room) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make one that is root's")
    tools = room.place("tools")
    program = tools / "id"
    shutil.copyfile("/usr/bin/id", program)
    program.chmod(0o4755)
    assert program.stat().st_uid == 0
    done = room.run(room.words(("/opt/tools/id", "-u"), binds=[Bind(str(tools), "/opt/tools")]))
    assert done.stdout.strip() == "1000"


def test_a_socket_in_a_read_only_directory_is_reached_but_not_replaced(room: Room) -> None:
    door = room.place("door")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door / "proxy.sock"))
        (door / "proxy.sock").chmod(0o666)
        listener.listen()
        answers = room.report(
            """
import json, os, socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/door/proxy.sock")
def attempt(f, *a):
    try:
        f(*a)
    except OSError as e:
        return e.strerror
    return "done"
print(json.dumps([attempt(os.unlink, "/run/door/proxy.sock"), attempt(os.symlink, "/tmp/x", "/run/door/other"),
    attempt(os.rename, "/run/door/proxy.sock", "/run/door/y"), attempt(os.chmod, "/run/door/proxy.sock", 0),
    attempt(socket.socket(socket.AF_UNIX).bind, "/run/door/mine.sock")]))
""",
            binds=[Bind(str(door), "/run/door")],
        )
        listener.settimeout(1)
        listener.accept()[0].close()
    assert answers == ["Read-only file system"] * 5
    assert [path.name for path in door.iterdir()] == ["proxy.sock"]


def test_what_is_written_in_a_bound_directory_belongs_to_an_ordinary_user_of_the_host(room: Room) -> None:
    home = room.place("home")
    room.report(
        "import json; open('/home/agent/x', 'w').close(); print(json.dumps(None))",
        binds=[Bind(str(home), "/home/agent", writable=True)],
    )
    assert (home / "x").stat().st_uid == room.uid != 0


def test_maintenance_writes_etc_as_root_inside_and_as_nobody_outside(room: Room) -> None:
    trust = room.place("trust")
    answers = room.report(
        """
import json, os
open("/etc/made", "w").close(); open("/usr/local/share/ca-certificates/ca.crt", "w").close()
status = dict(l.strip().replace("\\t", "").split(":", 1) for l in open("/proc/self/status"))
names = [l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]]
try:
    open("/usr/bin/made", "w")
except OSError as e:
    usr = e.strerror
print(json.dumps([os.getuid(), status["CapEff"], status["NoNewPrivs"], status["Seccomp"], names, usr]))
""",
        binds=[Bind(str(trust), "/usr/local/share/ca-certificates", writable=True)],
        maintenance=True,
    )
    assert answers == [0, "0" * 16, "1", "2", ["lo"], "Read-only file system"]
    assert {(room.etc() / "made").stat().st_uid, (trust / "ca.crt").stat().st_uid} == {room.uid}


def test_ordinary_programs_work_behind_these_walls(room: Room) -> None:
    answers = room.report("""
import asyncio, json, multiprocessing, os, pty, socket, subprocess, tempfile, threading
thread = threading.Thread(target=os.getpid); thread.start(); thread.join()
word = subprocess.run(["sh", "-c", "echo $((6 * 7)) | cat"], capture_output=True, text=True).stdout.strip()
master, slave = pty.openpty()
async def child():
    p = await asyncio.create_subprocess_exec("id", "-un", stdout=-1)
    return (await p.communicate())[0].decode().strip()
print(json.dumps([word, os.isatty(slave), asyncio.run(child()), multiprocessing.Queue is not None,
    socket.gethostname(), tempfile.mkdtemp().startswith("/tmp/"), socket.getaddrinfo("localhost", 1)[0][4][0]]))
""")
    assert answers == ["42", True, "agent", True, "bottle-agent", True, answers[-1]]
    assert answers[-1] in {"127.0.0.1", "::1"}


def test_the_command_line_shows_no_variable(room: Room) -> None:
    assert "MARKED" not in json.dumps(room.words(("/bin/true",)))
