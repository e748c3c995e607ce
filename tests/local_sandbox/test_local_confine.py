from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from bottle_fsm import naming
from bottle_fsm.backend.local import confine
from bottle_fsm.backend.local.confine import Identity, Stages, identity
from bottle_fsm.backend.local.sandbox import Bind
from bottle_fsm.errors import BackendError
from local_sandbox.sandbox_room import ENV, Room

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to drop")
ROLES: Final = (naming.ROLE_GUARD, naming.ROLE_INTERCEPTOR, naming.ROLE_AGENT)


@as_root
def test_every_role_is_an_ordinary_user_that_no_other_role_is() -> None:
    ids = [(identity(role).uid, identity(role).gid) for role in ROLES]
    assert len(set(ids)) == 3
    for uid, gid in ids:
        assert uid == gid
        assert uid is not None
        assert 1_879_048_192 <= uid < 2**31 - 1, "signed 32 bits, above what systemd hands out"


@as_root
def test_the_dropped_process_keeps_no_group_no_capability_and_gains_none() -> None:
    who = identity(naming.ROLE_AGENT)
    done = subprocess.run(
        Stages(who).wrap(("cat", "/proc/self/status")), capture_output=True, text=True, check=True, env=ENV
    )
    status = dict(line.replace("\t", " ").split(":", 1) for line in done.stdout.splitlines())
    assert {*status["Uid"].split(), *status["Gid"].split()} == {str(who.uid)}
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"].strip() == "1"
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


def on_the_host() -> list[str]:
    """Return what stands or is mounted at the stage, as this process sees it."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {confine.STAGE}" in line]
    return mounts + sorted(str(path) for path in Path(confine.STAGE).iterdir())


@as_root
def test_what_only_root_can_walk_to_is_staged_and_leaves_no_trace_on_the_host(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "open").mkdir(mode=0o755)
    (closed / "open" / "file").write_text("reached")
    (closed / "single").write_text("this one too")
    before = on_the_host()
    stages = Stages(identity(naming.ROLE_AGENT))
    places = [stages.seen(closed / "open"), stages.seen(closed / "single")]
    assert stages.seen(closed / "open") == places[0], "the same path is staged once"
    command = stages.wrap(("cat", f"{places[0]}/file", places[1]))
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=ENV).stdout == "reachedthis one too"
    refused = Stages(identity(naming.ROLE_AGENT)).wrap(("cat", str(closed / "single")))
    assert subprocess.run(refused, capture_output=True, check=False, env=ENV).returncode != 0
    assert on_the_host() == before


@as_root
def test_what_is_mounted_below_a_staged_directory_comes_along(tmp_path: Path) -> None:
    (tmp_path / "work" / "disk").mkdir(parents=True)
    stages = Stages(identity(naming.ROLE_AGENT))
    command = stages.wrap(("cat", f"{stages.seen(tmp_path / 'work')}/disk/file"))
    script = f'mount -t tmpfs none "{tmp_path}/work/disk"; echo there > "{tmp_path}/work/disk/file"; exec "$@"'
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        env=ENV,
    )
    assert done.stdout == "there\n", done.stderr


@as_root
def test_a_source_that_is_gone_ends_it_before_the_program_begins(tmp_path: Path) -> None:
    stages = Stages(identity(naming.ROLE_AGENT))
    stages.seen(tmp_path / "gone")
    done = subprocess.run(stages.wrap(("echo", "began")), capture_output=True, text=True, check=False, env=ENV)
    assert done.returncode != 0
    assert "began" not in done.stdout


@pytest.mark.parametrize("way", ["itself", "below", "by a link"])
def test_refuses_a_source_below_the_directory_that_is_covered(way: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(confine.STAGE)
    source: dict[str, str | Path] = {
        "itself": confine.STAGE,
        "below": f"{confine.STAGE}/usb/project",
        "by a link": tmp_path / "link/project",
    }
    stages = Stages(Identity(65001, 65001))
    with pytest.raises(BackendError, match="nothing below"):
        stages.seen(source[way])
    assert Stages(Identity(None, None)).seen(source[way]) == str(source[way])


def test_programs_come_from_the_launchers_path_and_never_from_the_sandboxs(room: Room) -> None:
    evil = room.place("evil")
    sign = evil / "ran"
    for name in ("unshare", "mount", "mkdir", "setpriv", "sh", "bwrap", "cat"):
        (evil / name).write_text(f"#!/bin/sh\necho {name} >> {sign}\n")
        (evil / name).chmod(0o755)
    work = room.place("work")
    command = room.words(("/usr/bin/id", "-u"), binds=[Bind(str(work), "/workspace")])
    done = room.run(command, env={"PATH": f"{evil}:/usr/bin:/bin"})
    assert done.stdout == "1000\n", done.stderr
    assert not sign.exists(), sign.read_text()


def test_an_ordinary_launcher_stages_nothing_and_drops_nothing(tmp_path: Path) -> None:
    stages = Stages(Identity(None, None))
    assert stages.seen(tmp_path) == str(tmp_path)
    assert stages.wrap(("cat", "a b")) == (confine.tool("cat"), "a b")


@pytest.mark.parametrize("path", ["/nowhere", ".", ""])
def test_refuses_a_program_that_has_no_whole_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    with pytest.raises(BackendError, match="bwrap is missing"):
        Stages(Identity(None, None)).wrap(("bwrap",))


@as_root
def test_trees_are_given_away_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "outside").write_text("")
    (tmp_path / "tree" / "deep" / "link").symlink_to(tmp_path / "outside")
    Identity(65001, 65002).own(tmp_path / "tree")
    owners = [path.lstat() for path in (tmp_path / "tree", *(tmp_path / "tree").rglob("*"))]
    assert {(stat.st_uid, stat.st_gid) for stat in owners} == {(65001, 65002)}
    assert (tmp_path / "outside").stat().st_uid == 0
