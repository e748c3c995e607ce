"""The process that holds a sandbox: what it records and when, what it gives away, and what its death leaves."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import random
import signal
import socket
import stat
import time
from pathlib import Path, PosixPath
from typing import Any, Final

import pytest

from bottle_fsm.backend.local import proc, supervisor
from bottle_fsm.backend.local.sandbox import Bind
from bottle_fsm.backend.local.world import whole_log
from bottle_fsm.errors import DriftError
from local_sandbox.held_sandbox import Held, holding, left, wait_for
from local_sandbox.sandbox_room import Room

FOREVER: Final = ("/bin/sleep", "600")


def child_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def test_records_the_first_process_so_that_it_is_no_other(room: Room) -> None:
    with holding(room) as held:
        held.up()
        known = held.known()
        assert proc.identify(known.pid) == known
        assert known.boot == proc.boot_id()
        assert known.pidns not in {0, Path("/proc/self/ns/pid").stat().st_ino}
        assert Path(f"/proc/{known.pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"


def test_runs_in_a_session_of_its_own_under_nobody(room: Room) -> None:
    with holding(room) as held:
        held.up()
        (pid,) = held.supervisors()
        assert os.getsid(pid) != os.getsid(0)
        assert Path(f"/proc/{pid}/status").read_text().split("PPid:")[1].split()[0] != str(os.getpid())


def test_writes_down_how_it_ended(room: Room) -> None:
    with holding(room, main=("/bin/sh", "-c", "echo the last words; exit 7")) as held:
        held.fill().launch()
        ended = wait_for(held.ended, "the end")
        assert ended["code"] == 7
        assert ended["at"].endswith("Z")
        assert held.log() == "the last words\n"
        wait_for(lambda: not held.processes(), "everybody to leave")


def test_writes_down_the_signal_that_ended_the_program(room: Room) -> None:
    with holding(room, main=("/bin/sh", "-c", "kill -KILL $$")) as held:
        held.fill().launch()
        assert wait_for(held.ended, "the end")["code"] == 128 + signal.SIGKILL


def test_ends_the_sandbox_and_not_bubblewrap_alone_when_it_is_told_to(room: Room) -> None:
    with holding(room, main=("/bin/sh", "-c", "setsid sleep 600 & trap '' TERM; sleep 600")) as held:
        held.up()
        known = held.known()
        wait_for(lambda: len(proc.members(known.pidns)) >= 4, "its processes")
        os.kill(held.supervisors()[0], signal.SIGTERM)
        assert wait_for(held.ended, "the end")["code"] == 128 + signal.SIGKILL
        assert proc.left_of(known) == [], "nobody is left when the end is written down"
        wait_for(lambda: not held.processes(), "everybody to leave")


def test_leaves_a_sandbox_that_is_found_when_it_is_killed(room: Room) -> None:
    with holding(room) as held:
        held.up()
        for pid in held.supervisors():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not held.supervisors(), "its death")
        assert proc.is_alive(held.known())
        assert held.inside("echo goes on") == "goes on"
        assert held.ended() == {}
        assert proc.kill_namespace(held.known()) == []
        wait_for(lambda: not held.processes(), "everybody to leave")


def test_holds_on_to_a_sandbox_whose_bubblewrap_was_killed(room: Room) -> None:
    with holding(room, main=("/bin/sh", "-c", "while [ ! -e /workspace/over ]; do sleep 0.02; done; exit 9")) as held:
        held.up()
        (holder,) = held.supervisors()
        os.kill(child_of(holder)[0], signal.SIGKILL)
        wait_for(lambda: held.known().pid in child_of(holder), "the supervisor to take the sandbox over")
        assert proc.is_alive(held.known())
        assert held.ended() == {}, "it has not ended"
        with contextlib.suppress(DriftError):  # the end that it brings may be quicker than the word of its own
            held.inside("touch /workspace/over")
        assert wait_for(held.ended, "the end")["code"] == 9


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_leaves_a_sandbox_that_is_found_or_none_that_runs(seed: int, room: Room) -> None:
    """The program leaves a sign when it runs; without a record nobody may be left, and no sign."""
    chosen = random.Random(seed)
    for number in range(6):
        sign = room.place(f"sign-{number}")
        binds = [Bind(str(sign), "/sign", writable=True)]
        main = ("/bin/sh", "-c", "touch /sign/ran; exec sleep 600")
        with holding(room, f"held-{number}", main=main, binds=binds) as held:
            kill_after(held, chosen.uniform(0.0, 0.25))
            if not held.state():  # one that is recorded is found and ended by its record, in `down`
                wait_for(lambda: not left(room), f"everybody to leave (seed {seed}, {number})")
                assert not held.state(), "recorded by nobody"
                assert list(sign.iterdir()) == []


def kill_after(held: Held, seconds: float) -> None:
    held.fill().launch()
    time.sleep(seconds)
    for pid in held.supervisors():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not held.supervisors(), "its death")


def test_stopped_before_its_word_lets_nothing_run(room: Room) -> None:
    """Bubblewrap up, its pid told, the supervisor dead: the very window in which nobody would know of it."""
    sign = room.place("sign")
    binds = [Bind(str(sign), "/sign", writable=True)]
    with holding(room, main=("/bin/touch", "/sign/ran"), binds=binds) as held:
        held.fill()
        (held.folder / "state.json").mkdir()  # the record cannot be written: its place is taken
        held.launch()
        wait_for((held.folder / "exit.json").exists, "the end")
        (held.folder / "state.json").rmdir()
        assert held.ended()["code"] == 125
        assert "state.json" in held.log()
        wait_for(lambda: not held.processes(), "everybody to leave")
        assert list(sign.iterdir()) == []


def test_killed_before_bubblewrap_begins_lets_nothing_run(room: Room) -> None:
    """The very command that it starts kills it; the rest goes its way, unrecorded, and ends by itself."""
    sign = room.place("sign")
    binds = [Bind(str(sign), "/sign", writable=True)]
    with holding(room, main=("/bin/touch", "/sign/ran"), binds=binds) as held:
        held.fill()
        command = json.loads((held.folder / "object.json").read_bytes())["command"]
        held.write(command=["/bin/sh", "-c", 'kill -9 $PPID; exec "$@"', "sh", *command])
        held.launch()
        wait_for(lambda: "bwrap" in held.log() or not held.supervisors(), "the death")
        wait_for(lambda: not left(room), "everybody to leave")
        assert held.state() == {}
        assert list(sign.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x06\x00\x00\x00\x00\x00\xff", b"\xff" * 16], ids=["empty", "cut", "bad"])
def test_starts_nothing_without_a_whole_filter(content: bytes, room: Room) -> None:
    sign = room.place("sign")
    binds = [Bind(str(sign), "/sign", writable=True)]
    with holding(room, main=("/bin/touch", "/sign/ran"), binds=binds) as held:
        held.fill()
        (held.folder / "seccomp.bpf").write_bytes(content)
        held.launch()
        assert wait_for(held.ended, "the end")["code"] != 0
        assert held.state() == {}
        assert list(sign.iterdir()) == []
        wait_for(lambda: not held.processes(), "everybody to leave")


def test_tells_in_its_log_what_did_not_come_up(room: Room) -> None:
    with holding(room) as held:
        held.fill()
        held.write(command=["/no/such/bwrap", "--", "x"])
        held.launch()
        assert wait_for(held.ended, "the end")["code"] == 125
        assert "/no/such/bwrap" in held.log()


def test_leaves_a_sandbox_alone_that_another_one_holds(room: Room) -> None:
    with holding(room) as held:
        held.up()
        known, holder = held.known(), held.supervisors()
        held.launch()
        wait_for(lambda: held.supervisors() == holder, "the second one to leave")
        assert held.known() == known
        assert held.inside("echo still here") == "still here"


def test_listens_at_a_path_longer_than_an_address_can_be_and_for_its_owner_alone(room: Room) -> None:
    deep = "/".join(["d" * 60] * 3)
    for count in range(1, 4):
        room.place("/".join(["d" * 60] * count))
    with holding(room, f"{deep}/held") as held:
        held.up()
        path = held.folder / "control.sock"
        assert len(os.fsencode(path)) > 108
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert held.inside("echo reached") == "reached"


def test_gives_its_child_no_descriptor_and_no_variable_but_the_named_ones(room: Room) -> None:
    with socket.socket() as secret, holding(room, main=FOREVER) as held:
        secret.set_inheritable(True)
        held.up()
        known = held.known()
        (main,) = wait_for(lambda: child_of(known.pid), "the program")
        wait_for(lambda: Path(f"/proc/{main}/cmdline").read_bytes().startswith(b"/bin/sleep"), "the program itself")
        links = {path.name: str(path.readlink()) for path in Path(f"/proc/{main}/fd").iterdir()}
        assert links == {"0": "/dev/null", "1": str(held.folder / "log"), "2": str(held.folder / "log")}
        environ = Path(f"/proc/{main}/environ").read_bytes().rstrip(b"\0").split(b"\0")
        assert sorted(environ) == [b"LC_CTYPE=C.UTF-8", b"PATH=/usr/bin:/bin", b"PLANNED=yes", b"PWD=/"]


def test_drops_the_older_lines_of_a_log_and_the_program_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as program:
        program.write(b"older" * 2000 + b"newest")
        supervisor.cut(log)
        program.write(b"after")
    assert log.stat().st_size == 505
    assert log.read_bytes().endswith(b"oldernewestafter")


def test_cuts_a_log_between_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    log = tmp_path / "log"
    lines = [b"line %03d\n" % number for number in range(200)]
    log.write_bytes(b"".join(lines))
    supervisor.cut(log)
    assert log.read_bytes() == b"".join(lines[-55:])


def test_loses_no_line_that_is_written_while_it_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    log = tmp_path / "log"
    log.write_bytes(b"a line\n" * 200)

    class Busy(io.BufferedRandom):
        """A file to which somebody else appends just before it is flushed."""

        def flush(self) -> None:
            with log.open("ab") as program:
                program.write(b"meanwhile\n" if b"meanwhile" not in log.read_bytes() else b"")
            super().flush()

    class Noisy(PosixPath):
        """Its path."""

        def open(self, *_: Any) -> Any:
            return Busy(io.FileIO(str(self), "r+"))

    supervisor.cut(Noisy(log))
    assert log.read_bytes() == b"a line\n" * 71 + b"meanwhile\n"


def test_leaves_a_log_alone_while_somebody_reads_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    log = tmp_path / "log"
    log.write_bytes(b"a line\n" * 200)
    with log.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        supervisor.cut(log)
        assert log.stat().st_size == 1400
    supervisor.cut(log)
    assert log.stat().st_size < 600
    assert whole_log(tmp_path) == log.read_bytes()
    assert whole_log(tmp_path / "nowhere") == b""


def test_a_directorys_name_is_no_placeholder() -> None:
    words = [
        "bwrap",
        "--info-fd",
        "{info}",
        "--bind",
        "/home/{go}/{control}",
        "/x",
        '{"go": {go}, "control": {control}}',
    ]
    made = supervisor.filled(words, {"{info}": 7, "{go}": 8, "{control}": 9, "{seccomp}": 10})
    assert made == ["bwrap", "--info-fd", "7", "--bind", "/home/{go}/{control}", "/x", '{"go": 8, "control": 9}']
    assert json.loads(made[-1]) == {"go": 8, "control": 9}


def test_starts_again_where_it_ended(room: Room) -> None:
    with holding(room) as held:
        held.up()
        first = held.known()
        os.kill(held.supervisors()[0], signal.SIGTERM)
        wait_for(held.ended, "the end")
        wait_for(lambda: not held.supervisors(), "its supervisor to leave")
        for name in ("state.json", "exit.json"):
            (held.folder / name).unlink()
        held.launch()
        wait_for(held.state, "the record")
        assert held.known() != first
        assert held.inside("echo again") == "again"
