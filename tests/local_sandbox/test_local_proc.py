from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from bottle_fsm.backend.local import proc
from local_sandbox.sandbox_room import USER, Room

MARK: Final = "BOTTLE_TEST_MARK"
BOOT: Final = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "600"], env={MARK: "mine", "OTHER": "x"})
    yield process
    process.kill()
    process.wait()


def known(pid: int) -> proc.Known:
    found = proc.identify(pid)
    assert found is not None
    return found


def test_a_process_is_alive_until_it_ended_even_if_nobody_waited(child: subprocess.Popen[bytes]) -> None:
    before = known(child.pid)
    assert proc.is_alive(before)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}/stat").exists(), "a zombie"
    assert not proc.is_alive(before)


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": BOOT}, {"pidns": 1}, {"pid": 1}, {"pid": 0}, {"pid": -1}])
def test_a_process_that_differs_in_anything_is_another(change: dict[str, Any], child: subprocess.Popen[bytes]) -> None:
    other = replace(known(child.pid), **change)
    assert not proc.is_alive(other)
    assert proc.kill(other, seconds=0.1) is True, "whoever was recorded is gone"
    assert child.poll() is None, "whoever has the pid now was not touched"


def test_a_recorded_process_is_killed_and_seen_to_be_gone(child: subprocess.Popen[bytes]) -> None:
    assert proc.kill(known(child.pid)) is True
    assert child.wait(5) == -9
    assert proc.kill(proc.Known(child.pid, 1, BOOT, 1)) is True


@pytest.mark.parametrize("name", ["a) b (c", ") R 1 1 1", "x\ny) Z 0"])
def test_a_processs_name_cannot_disguise_it(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    shutil.copyfile("/bin/sleep", program)
    program.chmod(0o755)
    with subprocess.Popen([program, "600"]) as process:
        try:
            found = known(process.pid)
            assert proc.is_alive(found)
            assert abs(found.start - known(os.getpid()).start) < 100 * 3600 * 24
            assert found.pidns == known(os.getpid()).pidns
        finally:
            process.kill()


def test_a_record_survives_json_and_a_broken_one_is_nobody() -> None:
    me = known(os.getpid())
    assert proc.Known.from_json(me.to_json()) == me
    for broken in ({}, {**me.to_json(), "pid": "x"}, {**me.to_json(), "start": None}):
        assert not proc.is_alive(proc.Known.from_json(broken))


def test_a_marked_process_is_found_with_its_environment(child: subprocess.Popen[bytes]) -> None:
    (found,) = [process for process in proc.scan(MARK) if process.known.pid == child.pid]
    assert (found.mark, found.environ) == ("mine", {MARK: "mine", "OTHER": "x"})
    assert "mine" in repr(found)
    assert "OTHER" not in repr(found), "environments are not shown"


def test_a_mark_in_another_variables_value_counts_for_nothing() -> None:
    with subprocess.Popen(["/bin/sleep", "600"], env={"OTHER": f"x {MARK}=forged", f"NOT_{MARK}": "forged"}) as process:
        try:
            assert process.pid not in [found.known.pid for found in proc.scan(MARK)]
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users to be")
def test_a_mark_of_another_user_counts_for_nothing() -> None:
    forged = ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--", "/bin/sleep", "600"]
    with subprocess.Popen(forged, env={MARK: "forged"}) as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                assert process.poll() is None
            assert Path(f"/proc/{process.pid}").stat().st_uid == USER
            assert process.pid not in [found.known.pid for found in proc.scan(MARK)]
        finally:
            process.kill()


def test_a_mark_inside_a_sandbox_counts_for_nothing(room: Room) -> None:
    script = f"export {MARK}=forged; sleep 600 & echo up; wait"
    with room.start(room.words(("/bin/sh", "-c", script))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (init,) = proc.inits_below(os.getpid())
        try:
            assert not [found for found in proc.scan(MARK) if found.mark == "forged"]
        finally:
            proc.kill_namespace(init)


def test_a_sandbox_is_found_judged_and_ended_by_its_own_launcher(room: Room) -> None:
    report = room.script("sandbox_ending.py")
    assert report == {
        "alive": True,
        "members": 5,
        "outside": [room.uid],
        "left": [],
        "alive_after": False,
        "members_after": [],
        "remaining": [],
    }
    assert 0 not in report["outside"]


def test_our_own_namespace_is_never_cleared(child: subprocess.Popen[bytes]) -> None:
    assert proc.kill_namespace(replace(known(child.pid), start=1), seconds=0.1) == []
    assert child.poll() is None


def test_a_namespace_of_another_boot_is_gone_and_nothing_is_searched_for(child: subprocess.Popen[bytes]) -> None:
    assert proc.kill_namespace(replace(known(child.pid), boot=BOOT, pidns=1), seconds=0.1) == []
    assert child.poll() is None


def test_a_namespace_whose_number_was_given_to_another_is_gone(room: Room) -> None:
    with room.start(room.words(("/bin/sh", "-c", "sleep 600 & echo up; wait"))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (init,) = proc.inits_below(os.getpid())
        try:
            ended = replace(init, pid=init.pid + 1, start=init.start - 1)
            assert len(proc.left_of(init)) >= 2
            assert proc.left_of(ended) == []
            assert proc.kill_namespace(ended, seconds=0.1) == []
            assert proc.is_alive(init)
        finally:
            proc.kill_namespace(init)


def test_a_process_whose_number_a_thread_has_now_is_gone() -> None:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        known = proc.identify(os.getpid())
        assert known is not None
        assert proc.kill(replace(known, pid=thread.native_id, start=known.start - 1), seconds=0.1)
    finally:
        may_end.set()
        thread.join()


def test_what_is_left_of_a_namespace_is_named(monkeypatch: pytest.MonkeyPatch, room: Room) -> None:
    with room.start(room.words(("/bin/sh", "-c", "sleep 600 & echo up; wait"))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (init,) = proc.inits_below(os.getpid())
        with monkeypatch.context() as patch:
            patch.setattr(proc, "kill", lambda *_, **__: True)  # as if the kernel's word had been a lie
            assert init.pid in proc.kill_namespace(init, seconds=0.1)
        assert proc.kill_namespace(init) == []
    assert sys.platform == "linux"
