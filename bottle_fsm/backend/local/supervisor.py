"""Holds one sandbox: `supervisor.py OBJECT_DIRECTORY`, detached, outliving its starter. Standard library only.

Its duty: start the sandbox of `object.json` with exactly the file descriptors that it needs, write down who its first
process is before that one may go on, keep its log small, write down how it ended. When it is killed, the sandbox runs
on, recorded, and is found. Not its duty: what the sandbox is.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

LOG_BYTES = 4 << 20
"""A log that grows beyond this is cut: the older half goes."""
LOOK_SECONDS = 5.0
GO = b"go"
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
    control = listen()
    ours, theirs = socket.socketpair()
    info_read, info_write = os.pipe()
    seccomp = os.memfd_create("seccomp", 0)
    os.write(seccomp, Path("seccomp.bpf").read_bytes())
    os.lseek(seccomp, 0, os.SEEK_SET)
    numbers = {
        "{seccomp}": seccomp,
        "{info}": info_write,
        "{control}": control.fileno(),
        "{go}": theirs.fileno(),
    }
    # The log is given away itself, no pipe: the sandbox can write on when this process is killed.
    process = subprocess.Popen(
        [filled(word, numbers) for word in settings["command"]],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=tuple(numbers.values()),
        env=settings["env"],
        cwd="/",
    )
    for descriptor in (info_write, seccomp):
        os.close(descriptor)
    theirs.close()
    control.close()
    signal.signal(signal.SIGTERM, lambda *_: process.kill())
    pid = sandbox_pid(info_read)
    if pid:
        record(pid)
        ours.sendall(GO)
    while True:
        try:
            code = process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            if os.fstat(log.fileno()).st_size > LOG_BYTES:
                cut(Path("log"))
            continue
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


def record(pid: int) -> None:
    """Write down who the sandbox's first process is; refuse one that is root on this host."""
    found = identity(pid)
    words = Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split()
    outside = [(int(first), int(length)) for first, length in zip(words[1::3], words[2::3], strict=True)]
    if any(first <= 0 < first + length for first, length in outside):
        os.kill(pid, signal.SIGKILL)
        raise RuntimeError("the sandbox's user would be root on this host")
    write("state.json", found)


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


def filled(word: str, numbers: dict[str, int]) -> str:
    """Put the descriptors' numbers into a word."""
    for name, number in numbers.items():
        word = word.replace(name, str(number))
    return word


def sandbox_pid(info: int) -> int:
    """Return the pid of the sandbox's first process, from bubblewrap's word; 0 when it did not come up."""
    data = b""
    deadline = time.monotonic() + INFO_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(info, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(info, 4096)
            data += part
            try:
                return int(json.loads(data)["child-pid"])
            except ValueError:
                if not part:
                    break
    os.close(info)
    return 0


def identity(pid: int) -> dict[str, Any]:
    """Return what tells a process from every other: pid, start, boot, pid namespace."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return {
        "pid": pid,
        "start": int(fields[19]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "pidns": Path(f"/proc/{pid}/ns/pid").stat().st_ino,
    }


def cut(path: Path) -> int:
    """Drop the older half of a log in place, and return its new size."""
    kept = path.read_bytes()[-LOG_BYTES // 2 :]
    with path.open("r+b") as file:
        file.write(kept)
        file.truncate()
    return len(kept)


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
