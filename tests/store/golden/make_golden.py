"""Makes the golden journal of today's schema: `python tests/store/golden/make_golden.py`, once for each new schema.

A golden file is what a bottle-fsm of that schema really wrote, and is never made again: later versions must open it.
Three bottles on the fake backend: one ready, one torn down, one kept after a failure. Names of the machine that it is
made on are left out. Beside it, as JSON, stand the root's id and the records that the events add up to.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from unittest import mock

from bottle_fsm.backend.choose import make_backend
from bottle_fsm.backend.fake.backend import WORLD_FILE
from bottle_fsm.backend.fake.world import FakeWorld, Fault
from bottle_fsm.errors import LaunchFailedError
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import specs
from bottle_fsm.model import Host, Json
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.registry import load_definition
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.stop import Stop
from bottle_fsm.runner.verbs import Wish, apply, destroy
from bottle_fsm.store import schema
from bottle_fsm.store.journal import DATABASE, Journal
from bottle_fsm.store.root import open_root

HERE = Path(__file__).parent
MANIFEST = """\
version: 1
name: golden
bottles: {dev: {env: {COLOUR: blue}, egress: {allow: [example.org]}}}
agents:
  gone: {bottle: dev}
  kept: {bottle: dev}
  ready: {bottle: dev, prompt: Say hello., git: {user: {name: Ada, email: ada@example.org}}}
"""
NOBODY: Json = {"uid": 1000, "user": "user", "pid": 4711, "argv": "0" * 16, "host": "host"}
BOOT = "00000000-0000-4000-8000-000000000000"


def main(target: Path) -> None:
    """Write `schemaN.sqlite3` and `schemaN.json` into a directory."""
    name = f"schema{schema.VERSION}"
    with (
        mock.patch("bottle_fsm.store.journal.actor", return_value=NOBODY),
        mock.patch("bottle_fsm.store.journal.boot_id", return_value=BOOT),
        tempfile.TemporaryDirectory(prefix="golden-") as place,
    ):
        journal = _launch(Path(place))
        expected = {"root": journal.root, "records": [r.to_json() for r in journal.opened.records()]}
        journal.opened.close()
        with (
            closing(sqlite3.connect(Path(place, "state", DATABASE))) as source,
            closing(sqlite3.connect(target / f"{name}.sqlite3")) as copy,
        ):
            copy.execute("PRAGMA page_size = 1024")
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    (target / f"{name}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


class _Made:
    """A journal, and the id of its root."""

    def __init__(self, opened: Journal, root: str) -> None:
        self.opened = opened
        self.root = root


def _launch(place: Path) -> _Made:
    root = open_root(place / "state")
    journal = Journal(root.path, root.root_id)
    host = Host(root.root_id, root.path, place, {"HOME": str(place)})
    runtime = Runtime(root, journal, load_definition(), host, make_backend, Silent(yes=True), Stop())
    (place / "golden.yaml").write_text(MANIFEST)
    loaded = load_manifest(place / "golden.yaml")
    wanted = {spec.agent: spec for spec in specs(loaded.manifest, loaded.path)}
    apply(runtime, Wish(wanted["gone"], "fake"))
    destroy(runtime, wanted["gone"].bottle)
    FakeWorld(root.path / WORLD_FILE).inject(Fault("start", "exits", role="interceptor", times=1))
    try:
        apply(runtime, Wish(wanted["kept"], "fake", "keep"))
    except LaunchFailedError:
        apply(runtime, Wish(wanted["ready"], "fake"))
    return _Made(journal, root.root_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
