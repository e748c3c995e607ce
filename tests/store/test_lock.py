"""The lock: held by one open file, readable by people, never unlinked, never forced."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bottle_fsm.errors import LockHeldError
from bottle_fsm.store.lock import BottleLock, boot_id
from bottle_fsm.store.root import StateRoot

HOLD = """
import sys, time
from pathlib import Path
from bottle_fsm.store.lock import BottleLock
with BottleLock(Path(sys.argv[1]), "demo/one", command="apply"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(root: StateRoot) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_tells_who_holds_it(root: StateRoot) -> None:
    with hold(root) as other:
        with pytest.raises(LockHeldError, match=rf"held by pid {other.pid} \(apply\).*--lock-timeout") as caught:
            BottleLock(root.path, "demo/one", command="destroy").__enter__()
        assert caught.value.exit_code == 3
        with BottleLock(root.path, "demo/two", command="apply"):
            pass
        other.kill()


def test_goes_with_its_process(root: StateRoot) -> None:
    with hold(root) as other:
        other.kill()
        other.wait()
        with BottleLock(root.path, "demo/one", command="resume"):
            pass


def test_waits_as_long_as_told(root: StateRoot) -> None:
    held = BottleLock(root.path, "demo/one", command="a")
    held.__enter__()
    threading.Timer(0.3, held.__exit__, (None, None, None)).start()
    started = time.monotonic()
    with BottleLock(root.path, "demo/one", command="b", timeout=10):
        assert time.monotonic() - started > 0.2


def test_leaves_its_file_empty_and_in_place(root: StateRoot) -> None:
    with BottleLock(root.path, "demo/one", command="a"):
        (path,) = (root.path / "locks").iterdir()
        assert str(os.getpid()) in path.read_text()
        inode = path.stat().st_ino
    assert path.read_text() == ""
    with BottleLock(root.path, "demo/one", command="a"):
        assert path.stat().st_ino == inode


def test_takes_the_new_file_when_the_old_one_was_unlinked(root: StateRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    real = BottleLock._same_file
    swapped: list[int] = []

    def swap(self: BottleLock, descriptor: int) -> bool:
        if not swapped:
            swapped.append(1)
            self._path.unlink()
        return real(self, descriptor)

    monkeypatch.setattr(BottleLock, "_same_file", swap)
    with BottleLock(root.path, "demo/one", command="a") as lock:
        assert os.fstat(lock._descriptor).st_ino == lock._path.stat().st_ino


def test_is_not_inherited_by_children(root: StateRoot) -> None:
    with BottleLock(root.path, "demo/one", command="a"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with BottleLock(root.path, "demo/one", command="b"):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("content", ["", "nonsense", "[1]"])
def test_speaks_of_another_process_when_the_holder_left_no_word(content: str, root: StateRoot) -> None:
    with BottleLock(root.path, "demo/one", command="a") as lock:
        lock._path.write_text(content)
        with pytest.raises(LockHeldError, match="held by another process"):
            BottleLock(root.path, "demo/one", command="b").__enter__()


def test_knows_the_boot() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_does_without_a_boot_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert boot_id() == "unknown"
