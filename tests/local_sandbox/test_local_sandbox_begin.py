"""How a sandbox begins: never as root of this host, never unrecorded."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from bottle_fsm.backend.local import proc, seccomp
from bottle_fsm.backend.local.confine import Identity
from bottle_fsm.backend.local.sandbox import Bind, variables
from bottle_fsm.backend.local.world import LocalObject, LocalWorld
from bottle_fsm.errors import SidecarExitedError
from local_sandbox.sandbox_room import ENV, PYTHON, Room

SIGN: Final = "/workspace/began"
WAIT_FOR_GO: Final = f"import os; os.write({{go}}, b'here'); open({SIGN!r}, 'w') if os.read({{go}}, 2) else None"
"""What the helper does first: it says that it is there, and does nothing until the supervisor gave its word."""
MARK: Final = "BOTTLE_TEST_BEGIN"


def made(world: LocalWorld, command: Sequence[str], mark: str) -> LocalObject:
    def fill(new: Path, final: Path) -> dict[str, object]:
        (new / "seccomp.bpf").write_bytes(seccomp.program())
        (new / "variables").write_bytes(variables({**ENV, MARK: mark}))
        return {"command": list(command), "env": dict(ENV), "python": PYTHON, "workdir": "/"}

    return world.create("process", "bottle-x", {}, fill=fill)


def marked(mark: str) -> list[int]:
    """Return every process of this machine that has the mark, or the path that it is in its words or its mounts."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            named = mark.encode() in (path / "cmdline").read_bytes() + (path / "mountinfo").read_bytes()
            if named or f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def gone(mark: str) -> list[int]:
    """Return who is left after a moment in which everybody who was going to end has ended."""
    end = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def end(pids: Sequence[int]) -> None:
    for pid in pids:
        known = proc.identify(pid)
        if known is not None:
            proc.kill(known)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make one that is root")
@pytest.mark.parametrize("attempt", range(5))
def test_one_whose_user_is_root_on_this_host_is_ended_before_its_program_begins(attempt: int, tmp_path: Path) -> None:
    """As when the drop was forgotten: root starts bubblewrap itself, and the user inside is an ordinary number."""
    work = tmp_path / "work"
    work.mkdir()
    room = Room(tmp_path, "root", Identity(None, None))
    binds = [Bind(str(work), "/workspace", writable=True)]
    world = LocalWorld(tmp_path / "world")
    item = made(world, room.words((PYTHON, "-c", WAIT_FOR_GO), binds=binds), str(tmp_path))
    with suppress(SidecarExitedError):  # it may be looked at in the moment between its record and its end
        world.start(item)
    assert gone(str(tmp_path)) == []
    assert list(work.iterdir()) == []
    assert b"root on this host" in (item.directory / "log").read_bytes()
    world.remove(item)


def test_one_whose_supervisor_dies_before_it_recorded_it_leaves_nothing(tmp_path: Path, room: Room) -> None:
    """The supervisor is killed by the very command that it starts, before bubblewrap itself begins."""
    work = room.place("work")
    binds = [Bind(str(work), "/workspace", writable=True)]
    command = room.words((PYTHON, "-c", WAIT_FOR_GO), binds=binds)
    world = LocalWorld(tmp_path / "world")
    item = made(world, ("/bin/sh", "-c", 'kill -9 $PPID; exec "$@"', "sh", *command), str(room.folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bottle_fsm.backend.local.world.START_SECONDS", 2.0)
        with pytest.raises(SidecarExitedError):
            world.start(item)
    left = gone(str(room.folder))
    end(left)
    assert left == []
    assert not (item.directory / "state.json").exists()
    assert not (item.directory / "exit.json").exists(), "the supervisor was killed, and did not give up by itself"
    assert list(work.iterdir()) == []
    world.remove(item)
