"""A launcher process for tests: one verb on the fake backend, to be killed from outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bottle_fsm.backend.choose import make_backend
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Event, Host
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply, destroy, resume
from bottle_fsm.store.journal import Journal
from bottle_fsm.store.root import open_root


class _Killed(Silent):
    """Kills its own process with SIGKILL right after the n-th event was committed; 0 never."""

    def __init__(self, after: int) -> None:
        super().__init__(yes=True)
        self._left = after

    def committed(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), 9)


def main(verb: str, state: str, manifest: str, after: str) -> None:
    """Run one verb; the process dies after so many events."""
    root = open_root(Path(state))
    journal = Journal(root.path, root.root_id)
    environ = {**os.environ, "TOKEN": "canary-0123456789abcdef"}
    host = Host(root.root_id, root.path, Path(manifest).parent, environ)
    runtime = Runtime(root, journal, load_definition(), host, make_backend, _Killed(int(after)), Stop())
    loaded = load_manifest(Path(manifest))
    spec = specs(loaded.manifest, loaded.path)[0]
    if verb == "apply":
        apply(runtime, Wish(spec, "fake"))
    elif verb == "resume":
        resume(runtime, spec.bottle)
    else:
        destroy(runtime, spec.bottle)


if __name__ == "__main__":
    main(*sys.argv[1:])
