"""The script that brings up an engine, run as make runs it, each engine in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SCRIPT = f"{sys.executable} {SCRIPTS / 'engine.py'}"
NOBODY = 65534


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory for an engine; pytest's own are too long for sockets below them."""
    directory = Path(tempfile.mkdtemp(prefix="be-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def shell(line: str, *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a shell line in new network and mount namespaces, where an engine disturbs no other one."""
    environ = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    command = ["unshare", "--net", "--mount", "bash", "-euc", f"ip link set lo up; {line}"]
    return subprocess.run(
        command, env={**environ, **(env or {})}, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def leftovers(directory: Path) -> list[str]:
    processes = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    found = [line for line in processes.splitlines() if str(directory) in line and "ps -eo" not in line]
    return found + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]


def test_starts_is_found_and_leaves_nothing(home: Path) -> None:
    place = home / "engine"
    network = '{"Name": "left", "Internal": true}'
    get = f"curl -sS --unix-socket {place}/run/docker.sock http://engine"
    done = shell(
        f"{SCRIPT} start --private --dir {place}; {SCRIPT} start --private --dir {place};"
        f"{SCRIPT} status --dir {place}; {SCRIPT} env --dir {place};"
        f"{get}/networks/create -H 'Content-Type: application/json' -d '{network}' >/dev/null;"
        f"ip -br link | grep -c br-; {SCRIPT} stop --dir {place}; ip -br link | grep -c br- || true"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("engine ")
    assert lines[1] == f"export DOCKER_HOST=unix://{place}/run/docker.sock"
    assert lines[2:] == ["1", "0"]
    assert done.stderr.count(f"answers at unix://{place}") == 1
    assert done.stderr.count("answers already") == 1
    assert [path.name for path in place.iterdir()] == ["lock"]
    assert leftovers(place) == []


def test_uses_a_short_directory_where_a_socket_path_would_be_too_long(home: Path) -> None:
    place = home / ("x" * 80)
    done = shell(f"{SCRIPT} start --private --dir {place}; {SCRIPT} env --dir {place}; {SCRIPT} stop --dir {place}")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().removeprefix("export DOCKER_HOST=unix://")).parent
    assert run.parent == Path("/run")
    assert not run.exists()


def test_keeps_images_when_asked_and_takes_a_killed_engine_away(home: Path) -> None:
    done = shell(
        f"{SCRIPT} start --private --dir {home}; {SCRIPT} stop --keep-data --dir {home}; test -d {home}/data; "
        f"{SCRIPT} start --private --dir {home}; kill -9 $(cat {home}/dockerd.pid); sleep 0.2; "
        f"{SCRIPT} stop --dir {home}"
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in home.iterdir()] == ["lock"]
    assert leftovers(home) == []


def test_falls_back_to_vfs_where_no_overlay_can_be_mounted(home: Path) -> None:
    parts = " ".join(str(home / part) for part in ("lower", "upper", "work", "merged"))
    options = f"lowerdir={home}/lower,upperdir={home}/upper,workdir={home}/work"
    place = home / "merged" / "engine"
    done = shell(
        f"mkdir {parts}; mount -t overlay overlay -o {options} {home}/merged; {SCRIPT} start --private --dir {place};"
        f"grep -o 'graphdriver(s)=[a-z0-9]*' {place}/dockerd.log; {SCRIPT} stop --dir {place}; umount {home}/merged"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "graphdriver(s)=vfs"


def test_refuses_to_run_beside_another_engine(home: Path) -> None:
    done = shell(
        f"{SCRIPT} start --private --dir {home}/a; {SCRIPT} start --private --dir {home}/b || echo refused;"
        f"{SCRIPT} stop --dir {home}/a"
    )
    assert done.stdout.strip() == "refused"
    assert "another dockerd" in done.stderr
    assert "packet filter" in done.stderr


def test_shows_the_log_when_the_engine_does_not_come_up(home: Path) -> None:
    (home / "data").mkdir()
    (home / "lock").touch()
    (home / "data" / "network").write_text("in the way")
    done = shell(f"{SCRIPT} start --private --dir {home}")
    assert done.returncode == 1
    assert f"The last lines of its log, {home}/dockerd.log" in done.stderr
    assert "not a directory" in done.stderr


def test_takes_the_users_engine_where_one_answers(engine_host: str, home: Path) -> None:
    environ = {**os.environ, "DOCKER_HOST": engine_host}
    command = [sys.executable, str(SCRIPTS / "engine.py"), "start", "--dir", str(home / "x")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "answers already" in done.stderr
    assert not (home / "x").exists()


def test_starts_no_other_engine_when_docker_host_is_dead(home: Path) -> None:
    done = shell(f"{SCRIPT} start --dir {home / 'x'}", env={"DOCKER_HOST": "unix:///nowhere"})
    assert done.returncode == 1
    assert "DOCKER_HOST=unix:///nowhere does not answer" in done.stderr
    assert not (home / "x").exists()


@pytest.mark.parametrize("verb", ["start --private", "stop"])
def test_touches_no_directory_that_holds_other_things(home: Path, verb: str) -> None:
    (home / "precious").write_text("work")
    done = shell(f"{SCRIPT} {verb} --dir {home}")
    assert done.returncode == (1 if "start" in verb else 0)
    assert [path.name for path in home.iterdir()] == ["precious"]


def test_says_that_there_is_nothing_to_stop_or_set(home: Path) -> None:
    done = shell(
        f"{SCRIPT} stop --dir {home / 'x'}; {SCRIPT} env --dir {home / 'x'}; {SCRIPT} status --dir {home / 'x'}"
    )
    assert done.returncode == 1
    assert "nothing to stop" in done.stderr
    assert done.stdout.splitlines() == [
        "# no private engine runs: nothing to set",
        f"no engine answers at unix://{home}/x/run/docker.sock",
    ]


def test_prints_the_exact_command_for_one_who_is_not_root(home: Path) -> None:
    shutil.copytree(SCRIPTS, home / "scripts")
    home.chmod(0o777)
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    command = [python, str(home / "scripts" / "engine.py"), "start", "--private", "--dir", str(home / "engine")]
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, user=user, group=user, env={}
    )
    assert done.returncode == 1
    exact = f"sudo {python} {home}/scripts/engine.py start --dir {home}/engine --private"
    assert exact in done.stderr
    assert (home / "engine").stat().st_uid == user


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> object:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import engine  # noqa: PLC0415 - a script, found by the path that was just set

    return engine


@pytest.mark.parametrize("code", [0, 7])
def test_installs_what_is_missing_and_says_so(
    script: object, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {tmp_path}/calls; echo no space left; exit {code}\n')
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(script, "PACKAGES", {"/nowhere/dockerd": "docker.io", "/bin/sh": "dash"})
    if code:
        with pytest.raises(RuntimeError, match="apt-get update -q failed \\(7\\):\nno space left"):
            script.install_missing()  # type: ignore[attr-defined]  # a script has no stub
        return
    script.install_missing()  # type: ignore[attr-defined]  # as above
    assert "installing docker.io with apt-get: about a minute" in capsys.readouterr().err
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["noninteractive update -q", "noninteractive install -qy --no-install-recommends docker.io"]
