"""A room: runs probes in real sandboxes, and reports from inside. Nothing here is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bottle_fsm.backend.local import seccomp
from bottle_fsm.backend.local.confine import Identity, Stages
from bottle_fsm.backend.local.etc import fill_etc
from bottle_fsm.backend.local.sandbox import INFO, SECCOMP, VARIABLES, Bind, Sandbox, argv, system_links, variables

USER: Final = 65000
"""An ordinary user's id, for a launcher that is not root."""
PYTHON: Final = "/usr/bin/python3"
REPOSITORY: Final = Path(__file__).parents[2]
ENV: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "MARKED": "yes"}


@dataclass(frozen=True)
class Room:
    """Where sandboxes are started from, and by whom."""

    folder: Path
    launcher: str
    who: Identity

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command this launcher's."""
        if self.launcher == "root" or os.geteuid() != 0:
            return ()
        return ("/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")

    @property
    def uid(self) -> int:
        """Who the sandbox's user is on this host."""
        if self.who.uid is not None:
            return self.who.uid
        return USER if os.geteuid() == 0 else os.geteuid()

    def place(self, name: str, *, mode: int = 0o755) -> Path:
        """Make a directory that the sandbox's user owns."""
        path = self.folder / name
        path.mkdir(mode=mode)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Give a path to the sandbox's user."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def etc(self) -> Path:
        """Return the /etc of this room's sandboxes."""
        path = self.folder / "etc"
        if not path.exists():
            fill_etc(path, hostname="bottle-agent", network=False)
            for item in (path, *path.rglob("*")):
                self.give(item)
        return path

    def words(
        self,
        program: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        network: bool = False,
        maintenance: bool = False,
        without: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """Return a sandbox's command; `without` takes walls away, so that those behind them can be seen."""
        stages = Stages(self.who)
        seen = tuple(Bind(stages.seen(bind.source), bind.target, bind.writable) for bind in binds)
        uid = 0 if maintenance else 1000
        box = Sandbox("bottle-agent", uid, uid, stages.seen(self.etc()), seen, network=network, maintenance=maintenance)
        made = [word for word in argv(box, links=system_links()) if word not in without]
        return (*self.prefix, *stages.wrap((*made, *program)))

    def start(self, command: Sequence[str], *, env: Mapping[str, str] = ENV) -> subprocess.Popen[str]:
        """Start a sandbox's command, with the descriptors that it names."""
        info_read, info_write = os.pipe()
        program, settings = seccomp.sealed_fd(), os.memfd_create("variables")
        numbers = {SECCOMP: str(program), VARIABLES: str(settings), INFO: str(info_write)}
        try:
            os.write(settings, variables(env))
            os.lseek(settings, 0, os.SEEK_SET)
            return subprocess.Popen(
                [numbers.get(word, word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/bin:/bin", "OUTSIDE": "only"},
                # With its read end in there as well the pipe never breaks: a bubblewrap that cannot write dies between
                # its fork and its word to the child, which then waits for ever.
                pass_fds=(program, settings, info_write, info_read),
                text=True,
                cwd="/",
            )
        finally:
            for descriptor in (info_read, info_write, program, settings):
                os.close(descriptor)

    def run(self, command: Sequence[str], *, env: Mapping[str, str] = ENV) -> subprocess.CompletedProcess[str]:
        """Run a sandbox's command to its end."""
        with self.start(command, env=env) as process:
            output, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def report(self, code: str, **shape: Any) -> Any:
        """Run Python inside, which prints JSON, and return what it printed."""
        done = self.run(self.words((PYTHON, "-I", "-c", code), **shape))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def script(self, name: str, *words: str) -> Any:
        """Run a script of this directory on the host, as this launcher; return the JSON that it prints."""
        python = sys.executable if self.launcher == "root" or os.geteuid() != 0 else PYTHON
        done = subprocess.run(
            [*self.prefix, python, str(Path(__file__).with_name(name)), str(self.folder), *words],
            env={
                "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
