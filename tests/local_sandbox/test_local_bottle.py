"""LocalBottle on a real sandbox: limits of time and output, root's commands beside it, terminals, a door that lies."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.bottle import LocalBottle
from bottle_fsm.backend.local.door import Session, Wanted
from bottle_fsm.backend.local.streams import Input
from bottle_fsm.errors import BackendError, DriftError, StepTimeoutError
from bottle_fsm.transfer import SHELL, Call
from local_sandbox.held_sandbox import Held, holding, left, running, wait_for
from local_sandbox.sandbox_room import REPOSITORY, Room

TRUST: Final = "/usr/local/share/ca-certificates"
ROOT: Final = """
import sys
from pathlib import Path
from bottle_fsm.backend.local.bottle import LocalBottle
bottle = LocalBottle(Path(sys.argv[1]), name="held")
bottle.exec(sys.argv[2:], user="root", timeout=600)
"""


@pytest.fixture
def held(room: Room) -> Iterator[Held]:
    with holding(room) as made:
        yield made.up()


def sleepers(held: Held) -> int:
    return len(running(left(held.room), "sleep", "4711"))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_ends_a_command_that_writes_without_end(held: Held) -> None:
    bottle = held.bottle()
    with pytest.raises(BackendError, match="more than 64 MiB"):
        bottle.exec(["sh", "-c", "setsid yes & yes"], timeout=60)
    wait_for(lambda: len(proc.members(held.known().pidns)) == 1, "both floods to end")
    assert bottle.exec(["echo", "well"]).text == "well"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_takes_as_much_as_the_limit_and_not_a_byte_more(
    held: Held, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr("bottle_fsm.backend.local.bottle.OUTPUT_LIMIT", 1 << 20)
    script = f"head -c {1 << 20} /dev/zero >&{stream}"
    result = held.bottle().exec(["sh", "-c", script])
    assert len(result.stdout + result.stderr) == 1 << 20
    with pytest.raises(BackendError, match="more than 1 MiB"):
        held.bottle().exec(["sh", "-c", f"{script}; echo >&{stream}"])


def test_ends_a_command_that_runs_too_long_with_all_that_it_started(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `timeout` inside does not end still holds the outputs."""
    monkeypatch.setattr("bottle_fsm.transfer.GRACE", 1.0)
    with pytest.raises(StepTimeoutError, match="longer than"):
        held.bottle().exec(["sh", "-c", "setsid sleep 4711 & sleep 4711"], timeout=0.5)
    assert sleepers(held) == 0


def test_ends_a_command_at_the_launchers_own_deadline(held: Held) -> None:
    """Even one that shook off what bounds it inside."""
    call = Call(argv=(SHELL, "-c", "sleep 4711"), user="agent", seconds=0.5, mark="")
    with pytest.raises(TimeoutError):
        held.bottle().run(call)
    assert sleepers(held) == 0


def test_ends_a_command_when_its_output_cannot_be_stored(held: Held) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        call = Call(argv=(SHELL, "-c", "echo x; sleep 4711"), user="agent", seconds=20, mark="", sink=cast("Any", full))
        refused(held, call)


def refused(held: Held, call: Call) -> None:
    with pytest.raises(OSError, match="No space"):
        held.bottle().run(call)
    assert sleepers(held) == 0


def test_leaves_no_descriptor_and_no_thread_behind(held: Held) -> None:
    bottle = held.bottle()
    bottle.exec(["true"], stdin=b"x")
    before = open_files(), threading.active_count()
    for code in range(5):
        assert bottle.exec(["sh", "-c", f"exit {code}"], stdin=b"x" * (1 << 20)).code == code
        bottle.exec(["true"], user="root", stdin=b"x" * (1 << 20))
        with pytest.raises(StepTimeoutError):
            bottle.exec(["sleep", "60"], stdin=b"x" * (1 << 20), timeout=0.1)
    wait_for(lambda: (open_files(), threading.active_count()) <= before, "everything to be closed")


def test_says_that_a_sandbox_is_gone(held: Held) -> None:
    bottle = held.bottle()
    assert proc.kill_namespace(held.known()) == []
    with pytest.raises(DriftError, match="nobody answers"):
        bottle.exec(["true"])
    (held.folder / "object.json").unlink()
    with pytest.raises(DriftError, match="is gone"):
        LocalBottle(held.folder, name="held")


def test_says_that_a_sandbox_ended_under_a_command(held: Held) -> None:
    killer = threading.Timer(0.5, lambda: proc.kill_namespace(held.known()))
    killer.start()
    with pytest.raises(DriftError, match="ended before its command did"):
        held.bottle().exec(["sleep", "60"])
    killer.join()


def test_refuses_a_request_that_is_too_large(held: Held) -> None:
    with pytest.raises(BackendError, match="could not be started"):
        held.bottle().exec(["echo", "x" * (2 << 20)])
    assert held.inside("echo well") == "well"


# -- root's commands ---------------------------------------------------------------------------------------------------


def test_writes_etc_as_root_where_the_agent_cannot(held: Held) -> None:
    bottle = held.bottle()
    for place in ("/etc/made", f"{TRUST}/made.crt"):
        assert bottle.exec(["touch", place]).code != 0
        assert bottle.exec(["touch", place], user="root").code == 0
        assert bottle.exec(["test", "-f", place]).code == 0
    assert bottle.exec(["touch", "/usr/made"], user="root").code != 0


def test_roots_commands_have_input_outputs_codes_and_no_power(held: Held) -> None:
    bottle = held.bottle()
    result = bottle.exec(["sh", "-c", "cat; echo err >&2; exit 9"], user="root", stdin=b"ready\ngo\n" * 9999)
    assert (result.code, result.stdout, result.stderr) == (9, b"ready\ngo\n" * 9999, b"err\n")
    assert bottle.exec(["sh", "-c", "kill -KILL $$"], user="root").code == 137
    assert bottle.exec(["no-such-program"], user="root").code == 127
    status = bottle.exec(["cat", "/proc/self/status"], user="root").text
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0" * 16, "1", "2")
    pids = bottle.exec(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"], user="root").text
    assert int(pids) < 8, "the agent's processes are not there"


def test_roots_commands_are_bounded_in_time_and_output(held: Held) -> None:
    bottle = held.bottle()
    with pytest.raises(BackendError, match="more than 64 MiB"):
        bottle.exec(["sh", "-c", "setsid yes & yes"], user="root")
    with pytest.raises(StepTimeoutError):
        bottle.exec(["sh", "-c", "setsid sleep 4711 & sleep 4711"], user="root", timeout=0.5)
    call = Call(argv=(SHELL, "-c", "setsid sleep 4711 & sleep 4711"), user="root", seconds=1.5, mark="")
    with pytest.raises(TimeoutError):
        bottle.run(call)
    assert sleepers(held) == 0


def test_tells_why_roots_sandbox_did_not_come_up(held: Held) -> None:
    prefix = json.loads((held.folder / "object.json").read_bytes())["maintenance"]
    held.write(maintenance=[word if word != "--proc" else "--no-such-option" for word in prefix])
    with pytest.raises(BackendError, match=r"did not come up: .*no-such-option"):
        held.bottle().exec(["true"], user="root")
    held.write(maintenance=[])
    with pytest.raises(BackendError, match="nothing in this sandbox is done as root"):
        held.bottle().exec(["true"], user="root")


def test_a_launcher_killed_as_it_asks_leaves_no_command_of_roots(held: Held) -> None:
    """At the failpoint the command has just got its word; a little earlier its sandbox waits for that."""
    before = set(left(held.room))
    for failpoint, delay in (("exec.started=kill", None), ("", 0.0), ("", 0.02), ("", 0.1), ("", 0.4)):
        launcher = subprocess.Popen(
            [sys.executable, "-c", ROOT, str(held.folder), "sh", "-c", "sleep 4711"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "BOTTLE_FSM_FAILPOINT": failpoint},
        )
        if delay is None:
            assert launcher.wait(20) == -signal.SIGKILL
        else:
            wait_for(partial(lambda mine: set(left(held.room)) - mine, before | {launcher.pid}), "the sandbox to begin")
            time.sleep(delay)
            launcher.kill()
            launcher.wait()
        wait_for(lambda: set(left(held.room)) <= before, f"everything to end (killed after {delay})")


def test_a_launcher_that_died_before_roots_sandbox_was_tied_to_it_has_nothing_done(held: Held) -> None:
    """Here bubblewrap begins only when the launcher is gone: no parent's death will ever end it."""
    prefix = json.loads((held.folder / "object.json").read_bytes())["maintenance"]
    began = held.folder / "began"
    late = 'p=$PPID; shift; : >"$0"; while [ -d /proc/$p ]; do sleep 0.02; done; exec "$@"'
    held.write(maintenance=["/bin/sh", "-c", late, str(began), "late", *prefix])
    before = set(left(held.room))
    words = [sys.executable, "-c", ROOT, str(held.folder), "sh", "-c", "touch /etc/made; sleep 4711"]
    launcher = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    wait_for(began.exists, "the one that waits to have seen its parent")
    launcher.kill()
    launcher.wait()
    wait_for(lambda: set(left(held.room)) <= before, "everything to end")
    assert not (held.room.etc() / "made").exists()


# -- a person ----------------------------------------------------------------------------------------------------------


def test_gives_a_command_a_terminal_of_its_own_sandbox(held: Held) -> None:
    session = held.session(
        "/bin/sh", "-c", "tty; stty size; ps -o tpgid= -p $$ | tr -d ' '; echo $$; read x; stty size", size=(31, 97)
    )
    frames = session.frames(time.monotonic() + 15)
    shown = b""
    while shown.count(b"\n") < 4:
        shown += next(frames)[1]
    terminal, size, group, pid = shown.decode().split("\r\n")[:4]
    assert terminal.startswith("/dev/pts/")
    assert size == "31 97"
    assert group == pid, "its controlling terminal"
    session.resize(44, 90)
    session.send(b"\n")
    assert b"44 90" in b"".join(data for _, data in frames)
    assert session.exit_code(5) == 0
    session.close()


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x1c", 131), (b"\x04", 7)])
def test_keys_become_signals_and_ends_of_input(key: bytes, code: int, held: Held) -> None:
    session = held.session("/bin/sh", "-c", "echo up; cat >/dev/null; exit 7", size=(24, 80))
    frames = session.frames(time.monotonic() + 15)
    assert b"up" in next(frames)[1]
    time.sleep(0.2)
    session.send(key)
    list(frames)
    assert session.exit_code(5) == code
    session.close()


def test_hangs_up_when_the_terminals_client_is_gone(held: Held) -> None:
    session = held.session("/bin/sh", "-c", "sleep 4711", size=(24, 80))
    wait_for(lambda: sleepers(held) == 1, "the command")
    session.close()
    wait_for(lambda: sleepers(held) == 0, "its end")


def test_connects_a_persons_terminal(held: Held) -> None:
    code = (
        "import sys; from pathlib import Path; from bottle_fsm.backend.local.bottle import LocalBottle;"
        "sys.exit(LocalBottle(Path(sys.argv[1]), name='held').interact(sys.argv[2:], tty=True, workdir='/tmp'))"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        words = [
            sys.executable,
            "-c",
            code,
            str(held.folder),
            "sh",
            "-c",
            "pwd; echo $TERM; read x; echo got $x; exit 5",
        ]
        os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "vt220"})
    shown = b""
    typed = False
    while select.select([terminal], [], [], 20)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
        if b"vt220" in shown and not typed:
            typed = bool(os.write(terminal, b"words\r"))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert b"/tmp\r\nvt220\r\n" in shown
    assert b"got words" in shown


# -- a door that lies, and a pipe that is closed under its writer ------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"", b"\n", b"7\n", b"[]\n", b'{"pid": null}\n', b'{"pid": "x"}\n', b"[" * 4000, b'{"error": "\x1b[2J"}\n'],
)
def test_believes_no_answer_without_its_form(answer: bytes, tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(BackendError, match="could not be started") as caught:
        lied_to(tmp_path, answer)
    assert "\x1b" not in str(caught.value)
    wait_for(lambda: open_files() <= before, "everything to be closed")


@pytest.mark.parametrize("answer", [b"\n", b"{}\n", b'{"exit": null}\n', b"[" * 4000, b"x" * 9000, b"[]\n"])
def test_believes_no_exit_code_without_its_form(answer: bytes, tmp_path: Path) -> None:
    session = lied_to(tmp_path, b'{"pid": 7}\n' + answer)
    with pytest.raises(BackendError, match=r"no exit code|ended before"):
        session.exit_code(2)
    session.close()


def test_takes_no_descriptor_that_it_did_not_ask_for(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(BackendError, match="nobody asked for"):
        lied_to(tmp_path, b'{"pid": 7}\n', descriptors=[0])
    with pytest.raises(BackendError, match="no terminal came"):
        lied_to(tmp_path, b'{"pid": 7}\n', size=(24, 80))
    wait_for(lambda: open_files() <= before, "everything to be closed")


def lied_to(
    folder: Path, answer: bytes, *, descriptors: list[int] | None = None, size: tuple[int, int] | None = None
) -> Session:
    path = folder / "control.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def lie() -> None:
            connection, _ = listener.accept()
            with connection:
                (length,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
                connection.recv(length, socket.MSG_WAITALL)
                if descriptors:
                    socket.send_fds(connection, [answer], descriptors)
                elif answer:
                    connection.sendall(answer)

        thread = threading.Thread(target=lie)
        thread.start()
        try:
            return Session(folder, Wanted(("/bin/true",), size=size), place="liar", stdin=False)
        finally:
            thread.join()


def test_a_writer_never_reaches_a_file_that_took_over_its_number(tmp_path: Path) -> None:
    """The command ends, its input is closed, and the journal is opened: at the same number, while a thread writes."""
    read, write = os.pipe()
    target = Input(write)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            while True:
                target.write(b"x" * (1 << 18))
        except OSError as error:
            problems.append(error)

    writer = threading.Thread(target=run)
    writer.start()
    wait_for(lambda: select.select([read], [], [], 0)[0], "the writer to fill the pipe")
    time.sleep(0.1)
    target.close()
    journals = [(tmp_path / f"journal-{n}").open("wb") for n in range(8)]
    assert write not in {journal.fileno() for journal in journals}, "still the writer's"
    os.close(read)
    writer.join(10)
    assert not writer.is_alive()
    assert problems
    for journal in journals:
        journal.close()
        assert Path(journal.name).stat().st_size == 0
    with pytest.raises(BrokenPipeError):
        target.write(b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write)
