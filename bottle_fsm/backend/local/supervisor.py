"""Holds one sandbox: `supervisor.py OBJECT_DIRECTORY`, detached, outliving its starter. Standard library only.

Its duty: start the sandbox of `object.json` with exactly the file descriptors that it needs, write down who its first
process is before that one may go on, keep its log small, write down how it ended. When it is killed, the sandbox runs
on, recorded, and is found. Not its duty: what the sandbox is.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

LOG_BYTES = 4 << 20
"""A log that grows beyond this is cut: the older half goes."""
PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 5.0
HERE, GO = b"here", b"go"
"""What the first program says when it is there, and what it waits for then."""
HERE_SECONDS = 30.0
INFO_SECONDS = 10.0


def main(directory: Path) -> int:
    """Hold the sandbox until it ends."""
    if os.fork():
        return 0  # whoever started us has nobody to wait for
    os.setsid()
    os.chdir(directory)
    lock = open("lock", "w", encoding="ascii")  # noqa: SIM115, PTH123 - held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another one holds this sandbox already
    settings = json.loads(Path("object.json").read_bytes())
    code = 125
    with open("log", "ab", buffering=0) as log:  # noqa: PTH123 - beside the other descriptors
        try:
            code = hold(settings, log)
        except Exception as error:  # noqa: BLE001 - the only place where anybody will read it
            log.write(f"supervisor: {type(error).__name__}: {error}\n".encode())
    write("exit.json", {"code": code, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    return 0


def hold(settings: dict[str, Any], log: IO[bytes]) -> int:
    """Start the sandbox, record it, let it go, and return its exit code."""
    join_cgroup(settings.get("cgroup", ""), settings.get("cgroup_settings", {}))
    wake = wake_on_sigterm()
    # What bubblewrap leaves behind when it is killed alone becomes a child of this process, and can be ended.
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise RuntimeError("no process can be adopted here")
    control = listen()
    ours, theirs = socket.socketpair()
    info_read, info_write = os.pipe()
    seccomp, variables = loaded("seccomp.bpf"), loaded("variables")
    numbers = {
        "{seccomp}": seccomp,
        "{variables}": variables,
        "{info}": info_write,
        "{control}": control.fileno(),
        "{go}": theirs.fileno(),
    }
    try:
        # The log is given away itself, no pipe: the sandbox can write on when this process is killed. The end from
        # which its pid is read goes along, so that this pipe does not break either: bubblewrap would die of that
        # between its fork and its word to the child, which then waits for ever, recorded nowhere.
        process = subprocess.Popen(
            filled(settings["command"], numbers),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(*numbers.values(), info_read),
            env={"PATH": os.defpath},  # never the sandbox's own: it could make these programs load something
            cwd="/",
        )
        for descriptor in (info_write, seccomp, variables):
            os.close(descriptor)
        theirs.close()
        control.close()
        pid = sandbox_pid(info_read, wake)
        if not pid:
            process.kill()
            return exit_code(process.wait())
        handle = os.pidfd_open(pid)
        admit(pid, ours, handle, wake)
        wait(handle, wake, log)
        code = process.wait()
        if code < 0:  # bubblewrap itself was killed, and its child is ours now
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return exit_code(code)
    finally:
        end_children()


def loaded(name: str) -> int:
    """Return a descriptor from which a file's content can be read, apart from the file."""
    descriptor = os.memfd_create(name, 0)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(Path(name).read_bytes())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def wake_on_sigterm() -> int:
    """Return a descriptor that becomes readable on SIGTERM, which ends nothing by itself any more."""
    read, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    return read


def wait(handle: int, wake: int, log: IO[bytes]) -> None:
    """Wait until the sandbox's first process ended; end it when told to; keep the log small."""
    while True:
        ready = select.select([handle, wake], [], [], LOOK_SECONDS)[0]
        if handle in ready:
            return
        if wake in ready:
            os.read(wake, 64)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        if os.fstat(log.fileno()).st_size > LOG_BYTES:
            cut(Path("log"))


def end_children() -> None:
    """Kill and wait for every child that is left, those that were left to us as well."""
    while True:
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def exit_code(code: int) -> int:
    """Return a subprocess's code as a shell does: 128 and the number of the signal that ended it."""
    return 128 - code if code < 0 else code


def join_cgroup(path: str, texts: dict[str, str]) -> None:
    """Make the sandbox's cgroup and go into it, so that everything that is started from here is in it."""
    if not path:
        return
    made = Path(path)
    made.mkdir(exist_ok=True)
    for name, text in texts.items():
        if (made / name).exists():  # a controller that is not delegated has no file
            (made / name).write_text(text, encoding="ascii")
    (made / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def admit(pid: int, ours: socket.socket, handle: int, wake: int) -> None:
    """Wait until the sandbox's own first program is there, look who it is on this host, record it, and let it go on.

    Not earlier: bubblewrap writes the user map after it has told the pid, and an empty map says nothing.
    """
    ready = select.select([ours.fileno(), handle, wake], [], [], HERE_SECONDS)[0]
    if handle in ready or wake in ready:
        return  # it ended, or is to end: `wait` sees to both
    if ours.fileno() not in ready or ours.recv(16) != HERE:
        raise RuntimeError("the first program of the sandbox did not begin")
    check_maps(pid)
    write("state.json", identity(pid))  # from here on it counts as running
    ours.sendall(GO)


def check_maps(pid: int) -> None:
    """Refuse a sandbox in which somebody is root, or in root's group, on this host."""
    for name in ("uid_map", "gid_map"):
        words = Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").split()
        outside = [(int(first), int(length)) for first, length in zip(words[1::3], words[2::3], strict=True)]
        if not outside or any(first <= 0 < first + length for first, length in outside):
            raise RuntimeError(f"the sandbox's user would be root on this host: {name} is {' '.join(words) or 'empty'}")


def listen() -> socket.socket:
    """Return the listening control socket; its path may be longer than a socket's address can be."""
    Path("control.sock").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind("control.sock")
    finally:
        os.umask(mask)
    listener.listen(64)
    return listener


def filled(words: list[str], numbers: dict[str, int]) -> list[str]:
    """Put the descriptors' numbers where they stand alone, and into the last word, which is our own; not into paths."""
    made = [str(numbers.get(word, word)) for word in words[:-1]]
    last = words[-1]
    for name, number in numbers.items():
        last = last.replace(name, str(number))
    return [*made, last]


def sandbox_pid(info: int, wake: int) -> int:
    """Return the pid of the sandbox's first process, from bubblewrap's word; 0 when it did not come up."""
    data = b""
    deadline = time.monotonic() + INFO_SECONDS
    try:
        while True:
            ready = select.select([info, wake], [], [], max(0.0, deadline - time.monotonic()))[0]
            if info not in ready:  # too late, or told to end
                return 0
            part = os.read(info, 4096)
            data += part
            try:
                return int(json.loads(data)["child-pid"])
            except ValueError:
                if not part:
                    return 0
    finally:
        os.close(info)


def identity(pid: int) -> dict[str, Any]:
    """Return what tells a process from every other: pid, start, boot, pid namespace."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return {
        "pid": pid,
        "start": int(fields[19]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "pidns": Path(f"/proc/{pid}/ns/pid").stat().st_ino,
    }


def cut(path: Path) -> None:
    """Drop all but the last lines of a log in place: whoever writes to it goes on writing.

    While somebody reads all of it, it is left as it is until the next look.
    """
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        start = file.seek(-LOG_BYTES // 2, os.SEEK_END)
        half = file.read()
        kept = half.partition(b"\n")[2] or half
        file.seek(0)
        file.write(kept)
        file.flush()
        file.seek(start + len(half))
        meanwhile = file.read()
        file.seek(len(kept))
        file.write(meanwhile)
        file.truncate()


def write(name: str, value: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    part = Path(f".{name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
