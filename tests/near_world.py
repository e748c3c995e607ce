"""The made-up internet without an engine: a network namespace of its own, with the machine's address on its loopback.

A launcher that is started in there (`NearBench`) has a guard that reaches the machine, and nothing else. For root.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.places import DIRECTORY
from bottle_fsm.backend.local.world import LocalWorld
from bottle_fsm.egress.address_space import is_public
from bottle_fsm.naming import LABEL_ROLE
from cli_shell import PROGRAM
from e2e_bench import Person
from outside_keys import Keys
from outside_world import OutsideWorld

SERVER: Final = Path(__file__).resolve().parent / "outside_server.py"
READY_SECONDS: Final = 30.0


class NearWorld(OutsideWorld):
    """The namespace, and the one machine in it."""

    def __init__(self, keys: Keys, address: str, holder: int) -> None:
        super().__init__(keys, address)
        self.inside = ("nsenter", f"--net=/proc/{holder}/ns/net", "--")
        self._log = keys.where / "near.log"

    def log(self) -> str:
        """Return all that the machine wrote."""
        return self._log.read_text()

    def visit(self, *argv: str) -> tuple[int, str]:
        """Run a command in the namespace, where only a guard stands otherwise."""
        done = subprocess.run([*self.inside, *argv], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def listening(self) -> set[str]:
        """Return every port of the namespace on which anybody listens, as the kernel shows them."""
        code, text = self.visit("cat", "/proc/self/net/tcp", "/proc/self/net/tcp6")
        assert code == 0, text
        rows = [line.split() for line in text.splitlines() if "local_address" not in line]
        return {row[1].rpartition(":")[2] for row in rows if row[3] == "0A"}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Run the machine for the time of the body."""
        place = self.keys.where / "near"
        place.mkdir()
        for name in ("server.pem", "server.key"):
            (place / name).write_bytes((self.keys.where / name).read_bytes())
        command = [*self.inside, sys.executable, str(SERVER), str(place)]
        with self._log.open("w") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log) as machine:
            try:
                end = time.monotonic() + READY_SECONDS
                while not self.seen("ready"):
                    assert time.monotonic() < end, self.log()
                    time.sleep(0.05)
                yield
            finally:
                machine.kill()


@contextlib.contextmanager
def near_world(where: Path) -> Iterator[NearWorld]:
    """Give a made-up internet for the time of the body."""
    address = f"22.{random.randint(1, 254)}.{random.randint(1, 254)}.2"
    assert is_public(address), "the guard has to take it for the real internet"
    script = f"ip link set lo up && ip address add {address}/32 dev lo && echo made && exec sleep infinity"
    command = ["unshare", "--net", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "made\n", "no network namespace could be made"
            world = NearWorld(Keys(where), address, holder.pid)
            with world.serving():
                yield world
        finally:
            holder.kill()


class NearBench(Person):
    """One person's place in the near world, on the local backend."""

    def __init__(self, place: Path, world: NearWorld) -> None:
        super().__init__(place, "unix:///nonexistent/docker.sock")
        self.world = world
        self.program = [*world.inside, PROGRAM]

    def first_process(self, role: str) -> int:
        """Return the pid of a sandbox's first process."""
        (found,) = (o for o in LocalWorld(self.state / DIRECTORY).objects() if o.labels[LABEL_ROLE] == role)
        return proc.Known.from_json(found.init).pid

    def members(self, role: str) -> list[int]:
        """Return the pids of a sandbox."""
        return proc.members(Path(f"/proc/{self.first_process(role)}/ns/pid").stat().st_ino)

    def signal(self, role: str, signum: signal.Signals) -> None:
        """Send a signal to every process of a sandbox."""
        for pid in self.members(role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def clean(self) -> None:
        """Take away what a test left."""
        self.run("destroy", "--all", "--yes")
