"""An engine behind ssh: a stand-in for the ssh client runs the remote command here, on the real engine."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.backend.docker.sshdoor import SshDoor, ssh_command
from bottle_fsm.errors import EngineUnavailableError, StepTimeoutError

URL = "ssh://me@far.invalid:2222"


def install_ssh(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called ssh first on the PATH."""
    tool = directory / "ssh"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {directory}/calls\n{script}\n')
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.fixture
def far(engine_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The test engine, reached through ssh."""
    assert shutil.which("docker"), "the remote end of an ssh connection is the docker client"
    install_ssh(tmp_path, f'for last; do :; done; DOCKER_HOST={engine_host} exec sh -c "$last"', monkeypatch)
    connected = connect({"DOCKER_HOST": URL})
    yield connected
    connected.close()


@pytest.mark.engine
def test_reaches_the_engine_and_knows_it_by_its_ssh_address(far: Engine, engine: Engine, tmp_path: Path) -> None:
    assert far.endpoint().url == URL
    assert far.endpoint().same_as(engine.endpoint())
    calls = (tmp_path / "calls").read_text().splitlines()
    assert set(calls) == {"-T -o ConnectTimeout=15 -l me -p 2222 -- far.invalid docker system dial-stdio"}


@pytest.mark.engine
def test_carries_an_execs_streams_and_their_ends(far: Engine, images: dict[str, ImageRef]) -> None:
    with far.guarded("start a container") as api:
        config = api.create_host_config(network_mode="none")
        container = api.create_container(images["agent"].id, host_config=config)["Id"]
        api.start(container)
    try:
        left = DockerBottle(far, container, name="ssh").exec(
            ["sh", "-c", "cat; echo end >&2; exit 3"], stdin=b"back" * 9999
        )
    finally:
        with far.guarded("remove the container") as api:
            api.remove_container(container, force=True, v=True)
    assert (left.code, left.stdout, left.stderr) == (3, b"back" * 9999, b"end\n")


@pytest.mark.engine
def test_is_usable_again_after_a_close(far: Engine) -> None:
    far.close()
    with far.guarded("ask") as api:
        assert api.ping()


def test_shows_what_ssh_said_when_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_ssh(tmp_path, 'echo "me@far.invalid: Permission denied (publickey)." >&2; exit 255', monkeypatch)
    with pytest.raises(EngineUnavailableError, match=r"Permission denied \(publickey\)"):
        connect({"DOCKER_HOST": URL})


def test_gives_up_on_an_ssh_that_hangs_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_ssh(tmp_path, f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done", monkeypatch)
    monkeypatch.setattr("bottle_fsm.backend.docker.sshdoor._PATIENCE", 0.2)
    with pytest.raises(StepTimeoutError):
        connect({"DOCKER_HOST": URL}, timeout=0.5)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_says_that_there_is_no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailableError, match="ssh cannot be started"):
        connect({"DOCKER_HOST": URL})


def test_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    threads = threading.active_count()
    door = SshDoor(URL)
    directory = Path(door.url.removeprefix("unix://")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == stat.S_IRWXU
    assert door.last_words() == ""
    door.close()
    assert not directory.exists()
    assert threading.active_count() == threads


@pytest.mark.parametrize("url", ["ssh://", "ssh://-oProxyCommand=x", "ssh://u:secret@h", "ssh://h:port", "ssh://h?x=1"])
def test_refuses_what_is_no_ssh_address(url: str) -> None:
    with pytest.raises(EngineUnavailableError, match="no ssh address"):
        ssh_command(url)


def test_asks_for_the_remote_socket_that_the_address_names() -> None:
    assert ssh_command("ssh://h/run/my.sock")[-2:] == ["h", "docker --host unix:///run/my.sock system dial-stdio"]


@pytest.mark.parametrize("path", ["/run/$(reboot)", "/run/a b", "/run/a;b"])
def test_lets_no_path_become_a_command_on_the_other_side(path: str) -> None:
    with pytest.raises(EngineUnavailableError, match="no ssh address"):
        ssh_command(f"ssh://h{path}")
