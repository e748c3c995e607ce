"""Where the local backend keeps its things on this host, and where they appear inside. Pure.

Every object of a launch is a directory below the state root; the sidecars share one Python environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DIRECTORY: Final = "local"
"""Below the state root: one directory an object."""
VENV_DIRECTORY: Final = "sidecars"
"""Below the data directory: the sidecars' Python environments, one for each set of requirements and Python."""
ROOT_DATA: Final = Path("/var/lib/bottle-fsm")
"""Root's data directory: what is below root's home cannot be read by the users that root's sandboxes run as."""

DOOR: Final = "/run/door"
"""Inside agent and interceptor: the directory of the sockets between them, read-only for the agent."""
GUARD_DOOR: Final = "/run/guard"
"""Inside interceptor and guard: the directory of the guard's sockets, read-only for the interceptor."""
PROXY_SOCKET: Final = "proxy.sock"
RELAY_SOCKET: Final = "relay.sock"
HEALTH_SOCKET: Final = "health.sock"
"""In the interceptor's own state directory, for the launcher: its health, asked from outside."""
CODE: Final = "/opt/bottle-fsm"
"""Inside every sandbox: our own programs, read-only."""
VENV: Final = f"{CODE}/sidecars"
"""Inside the sidecars: their Python environment."""
LOOPBACK: Final = "127.0.0.1"


def data_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Return the directory for what is kept between launches and state roots."""
    if os.geteuid() == 0 and not environ.get("XDG_DATA_HOME"):
        return ROOT_DATA
    base = environ.get("XDG_DATA_HOME") or ""
    return (Path(base) if base.startswith("/") else home / ".local" / "share") / "bottle-fsm"
