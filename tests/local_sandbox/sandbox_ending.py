"""Starts a sandbox, looks at its processes from the host as whoever runs this, and ends it: `sandbox_ending.py FOLDER`.

Prints JSON. Standard library and the backend's own modules only: an ordinary user has no more.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bottle_fsm.backend.local import proc
from bottle_fsm.backend.local.confine import identity
from bottle_fsm.naming import ROLE_AGENT
from local_sandbox.sandbox_room import Room

SCRIPT = "(setsid sleep 600 &) ; (env -i setsid sh -c 'sleep 600 & sleep 600' &) ; sleep 0.1 ; echo up ; exec sleep 600"
"""Children in sessions of their own, one with an empty environment, and grandchildren without a parent."""


def main(folder: Path) -> None:
    room = Room(folder, "root" if os.geteuid() == 0 else "user", identity(ROLE_AGENT))
    before = set(proc._pids())
    with room.start(room.words(("/bin/sh", "-c", SCRIPT))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.stderr
        (init,) = proc.inits_below(os.getpid())
        inside = proc.members(init.pidns)
        words = Path(f"/proc/{init.pid}/uid_map").read_text(encoding="ascii").split()
        report = {
            "alive": proc.is_alive(init),
            "members": len(inside),
            "outside": [int(word) for word in words[1::3]],
            "left": proc.kill_namespace(init),
            "alive_after": proc.is_alive(init),
            "members_after": proc.left_of(init),
        }
    time.sleep(0.05)
    report["remaining"] = [pid for pid in inside if pid not in before and Path(f"/proc/{pid}").exists()]
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
