"""Canaries: every secret that a launch meets is looked for in everything that a launch leaves behind or shows."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bottle_fsm import naming
from bottle_fsm.egress.files import GUARD_TOKENS, SECRET_PATHS
from e2e_bench import CONTAINER_ROLES, Bench, simple
from outside_world import OutsideWorld

pytestmark = [pytest.mark.engine]
GUEST = "trial/guest"
YOUNG_SECONDS = 2.0
"""For so long a process is looked at again: until then it is what it was started to be."""


def forms(secret: str) -> list[bytes]:
    """Return a secret as it is, and as it would be found in an encoded text."""
    plain = secret.encode()
    return [plain, base64.b64encode(plain)[:-4], plain.hex().encode()]


@dataclass
class Shown:
    """One launch with its canaries, and all that was seen of it."""

    bench: Bench
    canaries: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    commands: set[bytes] = field(default_factory=set)

    def found(self, data: bytes, *, tokens: bool = True) -> list[str]:
        """Return the names of the canaries in some bytes."""
        wanted = {**self.canaries, **(self.tokens if tokens else {})}
        return [name for name, value in wanted.items() if any(form in data for form in forms(value))]


@contextmanager
def watched_commands(seen: set[bytes]) -> Iterator[None]:
    """Collect the command lines of every process of this machine, containers included, while the body runs."""
    over = threading.Event()
    known: dict[str, float] = {}

    def look() -> None:
        while not over.is_set():
            now = time.monotonic()
            for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - many times a second
                if now - known.setdefault(name, now) > YOUNG_SECONDS:
                    continue  # what it began as, and what it became, was seen
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as file:  # noqa: PTH123 - as above
                        seen.add(file.read())
                except OSError:
                    continue
            for name in known.keys() - set(os.listdir("/proc")):  # noqa: PTH208 - as above
                del known[name]
            time.sleep(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@pytest.fixture(scope="module", name="shown")
def _shown(shared: Bench, world: OutsideWorld) -> Shown:
    token = f"canary-{secrets.token_hex(16)}"
    key = (world.keys.where / "locked").read_text().splitlines()
    shown = Shown(shared, {"variable": token, "passphrase": world.keys.passphrase, "private key": key[3]})
    shared.env["CANARY_TOKEN"] = token
    ssh = [world.ssh("code", identity_file=str(world.keys.where / "locked"))]
    env = {"TOKEN": {"from": "${CANARY_TOKEN}", "secret": True, "to": [world.name("web")]}, "PLAIN": "see me"}
    manifest = shared.write(simple(egress=world.egress("web", "code", allow=[world.name("web")]), ssh=ssh, env=env))
    log = shared.place / "events.jsonl"
    texts = shown.texts
    with watched_commands(shown.commands):
        plan = shared.ok("plan", manifest)
        texts["plan"] = (plan.out + plan.err).encode()
        started = shared.on_terminal(
            "--log-file", log, "apply", manifest, answers={"Passphrase for": world.keys.passphrase}
        )
        assert started.code == 0, started.out
        texts["terminal"] = started.out.encode()
        use = f"ssh -o BatchMode=yes {world.name('code')} true && test ${{#TOKEN}} -eq {len(token)}"
        used = shared.inside(GUEST, use)
        assert used.code == 0, used.err
        with shared.engine.guarded("stop the agent") as api:
            api.stop(shared.resources(GUEST)["agent"], timeout=1)
        repaired = shared.run("apply", manifest, "--json")
        texts["json"] = (repaired.out + repaired.err).encode()
        assert repaired.code == 4, "the ssh-agent's memory is gone, and nobody is there to give the passphrase"
        again = shared.on_terminal("apply", manifest, answers={"Passphrase for": world.keys.passphrase})
        assert again.code == 0, again.out
        texts["terminal of the repair"] = again.out.encode()
    texts["log file"] = log.read_bytes()
    shown.tokens = _tokens(shared)
    return shown


def _tokens(bench: Bench) -> dict[str, str]:
    """Read the launch's own tokens where they belong: in the guard's configuration."""
    with tarfile.open(fileobj=io.BytesIO(read_tar(bench, bench.resources(GUEST)["guard"], GUARD_TOKENS))) as tar:
        content = tar.extractfile(tar.getmembers()[0])
        assert content is not None
        found = {f"token {name}": value for name, value in json.load(content).items()}
    assert len(found) >= 2
    return found


def read_tar(bench: Bench, container: str, path: str) -> bytes:
    """Return a path of a container's layers as the uncompressed archive that the engine makes of it."""
    with bench.engine.guarded("read from a container") as api:
        return b"".join(api.get_archive(container, path)[0])


def test_watches_for_canaries_that_are_really_in_use(shown: Shown) -> None:
    inside = shown.bench.inside(GUEST, 'echo "$TOKEN"').out.strip()
    assert inside == shown.canaries["variable"]
    assert shown.found(f"x{inside}x".encode()) == ["variable"]
    assert shown.found(base64.b64encode(inside.encode())) == ["variable"]
    assert len(shown.commands) > 50
    assert any(b"bottle_fsm.egress.guard" in command for command in shown.commands), "containers' processes are seen"


@pytest.mark.parametrize("text", ["plan", "terminal", "json", "terminal of the repair", "log file"])
def test_shows_no_secret_in(shown: Shown, text: str) -> None:
    assert len(shown.texts[text]) > 500
    assert shown.found(shown.texts[text]) == []


def test_names_the_secret_variable_in_the_plan_without_its_value(shown: Shown) -> None:
    assert b"TOKEN" in shown.texts["plan"]
    assert b"see me" in shown.texts["plan"] or b"PLAIN" in shown.texts["plan"]


def test_keeps_no_secret_in_the_state_directory(shown: Shown) -> None:
    looked = 0
    for path in sorted(shown.bench.state.rglob("*")):
        if path.is_file():
            looked += 1
            # the launch's own tokens are derived from the state directory's key, so they may not stand there either
            assert shown.found(path.read_bytes()) == [], path
    assert looked >= 2
    assert b"provisioned" in (shown.bench.state / "journal.sqlite3").read_bytes() + _wal(shown)


def _wal(shown: Shown) -> bytes:
    wal = shown.bench.state / "journal.sqlite3-wal"
    return wal.read_bytes() if wal.exists() else b""


def test_passes_no_secret_as_an_argument(shown: Shown) -> None:
    for command in shown.commands:
        assert shown.found(command) == [], command.replace(b"\0", b" ")


def test_lets_the_engine_know_no_secret(shown: Shown) -> None:
    bench = shown.bench
    label = {"label": f"{naming.LABEL_ROOT}={bench.root_id}"}
    records: list[Any] = []
    with bench.engine.guarded("inspect everything") as api:
        for item in api.containers(all=True, filters=label):
            found = api.inspect_container(item["Id"])
            records += [found, *(api.exec_inspect(exec_id) for exec_id in found.get("ExecIDs") or [])]
            records.append(api.inspect_image(found["Image"]))  # type: ignore[no-untyped-call]  # the stub lacks types
            records.append(api.history(found["Image"]))  # type: ignore[no-untyped-call]  # the stub lacks types
        records += [api.inspect_network(item["Id"]) for item in api.networks(filters=label)]
        records += api.volumes(filters=label).get("Volumes") or []
    assert len(records) >= 3 * 3 + 2, "three containers with image and history, two networks"
    assert shown.found(json.dumps(records).encode()) == []


@pytest.mark.parametrize("role", CONTAINER_ROLES)
def test_logs_no_secret(shown: Shown, role: str) -> None:
    with shown.bench.engine.guarded("read a log") as api:
        assert shown.found(api.logs(shown.bench.resources(GUEST)[role])) == []


@pytest.mark.parametrize("role", CONTAINER_ROLES)
def test_writes_no_secret_into_a_container_s_layer(shown: Shown, role: str) -> None:
    bench, container = shown.bench, shown.bench.resources(GUEST)[role]
    with bench.engine.guarded("list what changed", timeout=60.0) as api:
        changed = [entry["Path"] for entry in api.diff(container) or [] if entry["Kind"] != 2]
    leaves = [path for path in changed if not any(other.startswith(f"{path}/") for other in changed)]
    assert leaves, "every container was given something"
    for path in leaves:
        allowed = role == naming.ROLE_GUARD and path in SECRET_PATHS
        assert shown.found(read_tar(bench, container, path), tokens=not allowed) == [], path
    if role == naming.ROLE_GUARD:
        assert GUARD_TOKENS in leaves, "the one place where the launch's own tokens are"
