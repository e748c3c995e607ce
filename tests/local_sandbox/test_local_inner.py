"""The first process of a sandbox: commands that it starts and ends, bytes that it carries, and its own walls."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.door import Session
from bottle_fsm.backend.local.sandbox import Bind
from bottle_fsm.backend.terminal import STDOUT
from bottle_fsm.errors import BackendError, DriftError
from local_sandbox.held_sandbox import Held, holding, running, wait_for
from local_sandbox.sandbox_room import Room

PORT: Final = 8080
SOCKET: Final = "/run/door/proxy.sock"
DIAL: Final = f"import socket; s = socket.create_connection(('127.0.0.1', {PORT})); "


@pytest.fixture
def held(room: Room) -> Iterator[Held]:
    with holding(room) as made:
        yield made.up()


def said(session: Any, seconds: float = 15.0) -> str:
    return b"".join(d for n, d in session.frames(time.monotonic() + seconds) if n == STDOUT).decode().strip()


def raw(held: Held) -> socket.socket:
    """Connect to the control socket past the door's own code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(held.folder / "control.sock"))
    return connection


def ask(held: Held, data: bytes) -> bytes:
    """Send bytes that are no honest request, with three descriptors, and return the answer."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with raw(held) as connection:
            sent = socket.send_fds(connection, [data], [null] * 3)
            if data[sent:]:
                connection.sendall(data[sent:])
            return connection.recv(4096)
    finally:
        os.close(null)


def framed(value: object) -> bytes:
    data = json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


def descriptors(held: Held) -> int:
    """Return how many the first process has open; who is not root may not list them, but newer kernels tell."""
    folder = Path(f"/proc/{held.known().pid}/fd")
    try:
        return len(list(folder.iterdir()))
    except PermissionError:
        return folder.stat().st_size or pytest.skip("before Linux 6.2 only root learns this")


@contextmanager
def echo(path: Path) -> Iterator[None]:
    """Serve a socket: everything is sent back, and an end after the other side's end, with one word more."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"bye")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(64)
        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


LIBC_KEEPS: Final = 1 << 31 | 1 << 32
"""Signals 32 and 33, as bits: the C library keeps them, so they stay as whoever began the launcher left them."""


@contextmanager
def bridged(room: Room, **shape: Any) -> Iterator[Held]:
    """A sandbox with a loopback port that leads to an echo outside."""
    door = room.place("door")
    bridges = [{"listen": f"tcp:127.0.0.1:{PORT}", "to": f"unix:{SOCKET}"}]
    shape = {"bridges": bridges, "binds": [Bind(str(door), "/run/door")], **shape}
    with echo(door / "proxy.sock"), holding(room, **shape) as made:
        yield made.up()


def test_a_command_has_every_wall_of_its_sandbox(held: Held) -> None:
    status = dict(line.split(":\t", 1) for line in held.inside("cat /proc/self/status").splitlines() if ":\t" in line)
    assert [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == ["0" * 16] * 5
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["SigBlk"], 16)) == ("1", "2", 0)
    assert int(status["SigIgn"], 16) & ~LIBC_KEEPS == 0
    script = "import ctypes; l = ctypes.CDLL(None, use_errno=True); l.mount(b'none', b'/usr', None, 0x1020, None)"
    assert held.inside(f'/usr/bin/python3 -c "{script}; print(ctypes.get_errno())"') == str(errno.EPERM)
    assert held.inside("umask; ulimit -n; ulimit -c").split() == ["0022", "4096", "0"]


def test_a_command_gets_three_descriptors_a_session_and_the_planned_variables(held: Held) -> None:
    with_more = held.session("/usr/bin/env", ONLY="this")
    assert sorted(said(with_more).split()) == [
        "LC_CTYPE=C.UTF-8",
        "ONLY=this",
        "PATH=/usr/bin:/bin",
        "PLANNED=yes",
        "PWD=/",
    ]
    with_more.close()
    script = "import os; print(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid(), os.getppid())"
    session = held.session("/usr/bin/python3", "-I", "-c", script)
    assert said(session) == "['0', '1', '2', '3'] True 1"  # 3 is the listing's own
    session.close()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("/bin/true",), 0),
        (("/bin/sh", "-c", "exit 42"), 42),
        (("/bin/sh", "-c", "kill -TERM $$"), 143),
        (("no-such-program",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_tells_how_a_command_ended(argv: tuple[str, ...], code: int, held: Held) -> None:
    session = held.session(*argv)
    said(session)
    assert session.exit_code(5) == code
    session.close()


def test_refuses_a_directory_that_is_not_there(held: Held) -> None:
    result = held.bottle().exec(["pwd"], workdir="/no/such/place")
    assert result.code == 126
    assert b"/no/such/place" in result.stderr
    assert result.stdout == b""


def test_passes_signals_on_to_the_whole_group(held: Held) -> None:
    session = held.session("/bin/sh", "-c", "sleep 600 & echo up; wait")
    frames = session.frames(time.monotonic() + 10)
    assert next(frames) == (STDOUT, b"up\n")
    session.signal(signal.SIGTERM)
    assert list(frames) == []
    assert session.exit_code(5) == 143
    session.close()


LEAVING: Final = (
    "sleep 4711",
    "sleep 4711 & sleep 4711",
    "timeout 600 sleep 4711",
    "setsid sleep 4711 & sleep 4711",
    "trap '' TERM HUP INT; (setsid sh -c 'sleep 4711 & sleep 4711' &); sleep 4711",
)


@pytest.mark.parametrize("way", ["close", "end"])
def test_ends_all_that_a_command_started_when_its_client_goes(way: str, held: Held) -> None:
    """`timeout` makes a group of its own, `setsid` a session; the mark goes with both."""
    known = held.known()
    for script in LEAVING:
        session = held.session("/bin/sh", "-c", script, BOTTLE_EXEC="mark-1")
        begun = partial(lambda count: len(sleepers(known)) == count, script.count("4711"))
        wait_for(begun, script)
        getattr(session, way)()
        if way == "close":
            wait_for(lambda: not sleepers(known), script)
        assert sleepers(known) == [], f"`end` returns when it is done: {script}"
    assert held.inside("echo well") == "well"


def test_ends_what_a_command_left_only_when_told_to(held: Held) -> None:
    known = held.known()
    left = held.session("/bin/sh", "-c", "setsid sleep 4711 >/dev/null 2>&1 &", BOTTLE_EXEC="mark-1")
    assert said(left) == ""
    assert left.exit_code(5) == 0
    left.close()
    other = held.session("/bin/sh", "-c", "setsid sleep 4711 & exit 3", BOTTLE_EXEC="mark-2")
    assert other.exit_code(5) == 3
    wait_for(lambda: len(sleepers(known)) == 2, "both to have become what they are")
    other.end()
    assert len(sleepers(known)) == 1, "a service that another command started goes on"


def sleepers(known: proc.Known) -> list[int]:
    return running(proc.members(known.pidns), "sleep", "4711")


def test_ends_no_neighbour_with_it(held: Held) -> None:
    neighbour = held.session("/bin/sleep", "600", BOTTLE_EXEC="mark-2")
    held.session("/bin/sleep", "600", BOTTLE_EXEC="mark-1").end()
    assert held.inside(f"kill -0 {neighbour.pid} && echo alive") == "alive"
    neighbour.end()


def test_ends_a_command_even_when_no_process_can_be_made(room: Room) -> None:
    with holding(room, limits={"nproc": 12, "nofile": 4096, "core": 0}) as held:
        held.up()
        script = "i=0; while [ $i -lt 30 ]; do setsid sleep 600 & i=$((i+1)); done; sleep 600"
        session = held.session("/usr/bin/bash", "-c", script, BOTTLE_EXEC="mark-1")
        known = held.known()
        wait_for(lambda: len(proc.members(known.pidns)) >= 10, "the limit")
        more: list[Session] = []
        with contextlib.suppress(BackendError):
            while len(more) < 12:
                more.append(held.session("/bin/sleep", "600"))
        assert len(more) < 12, "no process can be made"
        session.end()
        for another in more:
            another.end()
        wait_for(lambda: len(proc.members(known.pidns)) == 1, "all of them to end")
        assert held.inside("echo well") == "well"


def test_a_command_that_could_not_be_started_costs_no_descriptor(room: Room) -> None:
    with holding(room, limits={"nproc": 2, "nofile": 4096, "core": 0}) as held:
        held.up()
        session = held.session("/bin/sleep", "600")
        counts = []
        for _ in range(10):
            for size in [(24, 80), None]:
                with pytest.raises(BackendError, match="could not be started"):
                    held.session("/bin/true", size=size)
            counts.append(descriptors(held))
        assert counts[-1] < counts[0] + 5, "each attempt closes what it opened"
        session.end()


def test_reaps_orphans(held: Held) -> None:
    known = held.known()
    held.inside("i=0; while [ $i -lt 20 ]; do (sleep 0.1 &); i=$((i+1)); done")
    wait_for(lambda: held.inside("grep -c . /proc/[0-9]*/stat | wc -l") and len(proc.members(known.pidns)) == 1, "calm")
    states = held.inside("cat /proc/[0-9]*/stat | sed 's/.*) //' | cut -c1")
    assert "Z" not in states


NONSENSE: Final = [
    framed({}),
    framed([]),
    framed(7),
    framed({"argv": [], "env": {}, "cwd": "/", "tty": False}),
    framed({"argv": [7], "env": {}, "cwd": "/", "tty": False}),
    framed({"argv": "true", "env": {}, "cwd": "/", "tty": False}),
    framed({"argv": ["true"], "env": {"A": 1}, "cwd": "/", "tty": False}),
    framed({"argv": ["true\0"], "env": {}, "cwd": "/", "tty": False}),
    framed({"argv": ["true"], "env": {}, "cwd": None, "tty": False}),
    framed({"argv": ["true"], "env": {}, "cwd": "/", "tty": True, "rows": "x", "columns": 1}),
    struct.pack(">I", 5) + b"{nope",
    struct.pack(">I", 1 << 30) + b"x" * (2 << 20),
]


def test_answers_nonsense_with_an_error_and_stays_one_process(held: Held) -> None:
    assert held.inside("echo well") == "well"
    before = descriptors(held)
    for data in NONSENSE:
        try:
            assert b"error" in ask(held, data), data[:80]
        except (BrokenPipeError, ConnectionResetError):
            assert len(data) > 1 << 20, "only what is far too long is cut off"
        assert held.inside("echo well") == "well", data[:80]
        assert len(proc.members(held.known().pidns)) == 1, data[:80]
    wait_for(lambda: descriptors(held) <= before, "all descriptors to be closed")


def test_a_command_without_its_three_descriptors_is_refused(held: Held) -> None:
    with raw(held) as connection:
        connection.sendall(framed({"argv": ["true"], "env": {}, "cwd": "/", "tty": False}))
        assert b"error" in connection.recv(4096)


def test_a_client_that_says_nothing_blocks_no_other(held: Held) -> None:
    with raw(held), raw(held):
        assert held.inside("echo well") == "well"


def test_runs_many_commands_at_once(room: Room) -> None:
    with holding(room, limits={"nproc": 512, "nofile": 4096, "core": 0}) as held:
        held.up()
        sessions = [held.session("/bin/sh", "-c", f"sleep 0.5; exit {n}") for n in range(60)]
        for number, session in enumerate(sessions):
            said(session)
            assert session.exit_code(10) == number
            session.close()


def test_ends_with_everything_when_it_gets_the_signal(held: Held) -> None:
    known = held.known()
    session = held.session("/bin/sh", "-c", "trap '' TERM; setsid sleep 600 & sleep 600")
    os.kill(known.pid, signal.SIGTERM)
    said(session)
    with pytest.raises(DriftError, match="ended before"):
        session.exit_code(5)
    session.close()
    assert wait_for(held.ended, "the end")["code"] == 0
    assert proc.left_of(known) == []


def test_cannot_be_read_traced_or_ended_from_inside(held: Held) -> None:
    script = "for f in environ mem maps fd/0 root cwd; do cat /proc/1/$f || ls /proc/1/$f/; done; kill -9 1; echo still"
    words = held.inside(script)
    assert words.count("denied") >= 6
    assert words.endswith("still")
    assert proc.is_alive(held.known())


def test_carries_bytes_both_ways_with_each_end_by_itself(room: Room) -> None:
    with bridged(room) as held:
        script = DIAL + (
            "import threading\nsent = bytes(range(256)) * 8192\n"
            "t = threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(socket.SHUT_WR))); t.start()\n"
            "got = b''\n"
            "while data := s.recv(65536): got += data\n"
            "print(got == sent + b'bye')"
        )
        session = held.session("/usr/bin/python3", "-I", "-c", script)
        assert said(session, 30) == "True"
        session.close()


def test_holds_little_for_a_reader_that_does_not_read(room: Room) -> None:
    with bridged(room) as held:
        script = DIAL + "s.settimeout(2)\ntry:\n  while True: s.send(b'x' * 65536)\nexcept TimeoutError: print('full')"
        session = held.session("/usr/bin/python3", "-I", "-c", script)
        assert said(session, 30) == "full"
        resident = Path(f"/proc/{held.known().pid}/status").read_text().split("VmRSS:")[1].split()[0]
        assert int(resident) < 64 << 10
        session.close()


def test_hangs_up_when_nobody_is_on_the_other_side(room: Room) -> None:
    with bridged(room) as held:
        (room.folder / "door" / "proxy.sock").unlink()
        session = held.session("/usr/bin/python3", "-I", "-c", DIAL + "s.settimeout(10); print(s.recv(1))")
        assert said(session) == "b''"
        session.close()
        assert held.inside("echo well") == "well"


def test_a_flood_of_connections_shuts_neither_the_port_nor_the_launchers_door(room: Room) -> None:
    """The agent holds as many connections as it can; commands start meanwhile, and afterwards the port serves again."""
    with bridged(room, limits={"nproc": 64, "nofile": 256, "core": 0}) as held:
        script = (
            "import socket\nheld = []\n"
            f"for _ in range(240):\n  held.append(socket.create_connection(('127.0.0.1', {PORT})))\n"
            "print('flooded', flush=True)\ninput()"
        )
        flood = held.session("/usr/bin/python3", "-I", "-c", script, stdin=True)
        assert next(flood.frames(time.monotonic() + 20)) == (STDOUT, b"flooded\n")
        for _ in range(5):
            assert held.inside("echo well") == "well"
        assert descriptors(held) < 200
        flood.end()
        script = DIAL + "s.sendall(b'again'); print(s.recv(5))"

        def again() -> bool:
            session = held.session("/usr/bin/python3", "-I", "-c", script)
            try:
                return said(session) == "b'again'"
            finally:
                session.close()

        wait_for(again, "the port to serve again")


def test_listens_at_a_unix_socket_in_place_of_a_stale_one(room: Room) -> None:
    door = room.place("back")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(door / "in.sock"))
    stale.close()
    room.give(door / "in.sock")
    bridges = [
        {"listen": "unix:/run/back/in.sock", "to": "unix:/run/door/proxy.sock"},
    ]
    outer = room.place("door")
    binds = [Bind(str(door), "/run/back", writable=True), Bind(str(outer), "/run/door")]
    with echo(outer / "proxy.sock"), holding(room, bridges=bridges, binds=binds) as held:
        held.up()
        assert held.inside("echo well") == "well"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(door / "in.sock"))
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
