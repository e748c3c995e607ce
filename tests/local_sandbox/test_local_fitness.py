"""Whether this machine can run a sandbox, and what a person reads when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bottle_fsm.backend.choose import choose
from bottle_fsm.backend.local import fitness
from bottle_fsm.errors import BackendError, EngineUnavailableError
from bottle_fsm.model import Host

ENVIRON = {"PATH": os.environ["PATH"]}


def host(tmp_path: Path, **environ: str) -> Host:
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock", "HOME": str(tmp_path)}
    return Host("root", tmp_path, tmp_path, {**ENVIRON, **nowhere, **environ})


def test_finds_this_machine_fit() -> None:
    fitness.check_machine(platform="linux", environ=ENVIRON)


def test_takes_local_where_no_engine_answers_and_says_why(tmp_path: Path) -> None:
    choice = choose("auto", host(tmp_path))
    assert choice.name == "local"
    assert "no container engine answers" in choice.reason


def test_names_both_remedies_when_neither_can_run(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no container engine answers.*bwrap is missing") as caught:
        choose("auto", host(tmp_path, PATH=str(tmp_path)))
    assert "make engine" in str(caught.value.hint)
    assert "apt-get install -y bubblewrap" in str(caught.value.hint)


def test_says_that_another_system_needs_an_engine() -> None:
    with pytest.raises(BackendError, match="needs Linux, this is darwin") as caught:
        fitness.check_machine(platform="darwin", environ=ENVIRON)
    assert "--backend docker" in str(caught.value.hint)


def test_says_that_an_old_bubblewrap_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BackendError, match=r"bubblewrap 0\.4\.1 is too old"):
        fitness.check_machine(platform="linux", environ={"PATH": os.environ["PATH"]})


FORBIDDEN = """\
import sys
from bottle_fsm.backend.local import confine, fitness
from bottle_fsm.errors import BackendError
confine.identity = lambda role: confine.Identity(None, None)
try:
    fitness.check_machine(platform="linux", environ={"PATH": sys.argv[1]})
except BackendError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can forbid user namespaces; CI runs as root")
def test_says_how_to_allow_user_namespaces_that_are_forbidden() -> None:
    """For real: in a user namespace of its own, in which no further one may be made."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", FORBIDDEN, os.environ["PATH"]], capture_output=True, text=True, check=False
    )
    assert "user namespaces are forbidden (user.max_user_namespaces is 0)" in done.stdout, done.stderr
    assert "sysctl -w user.max_user_namespaces=15000" in done.stdout


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "profile bwrap /usr/bin/bwrap"),
        ("nothing/at/all", "0", "--backend docker"),
    ],
)
def test_finds_the_setting_that_forbids(setting: str, value: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / setting
    path.parent.mkdir(parents=True)
    path.write_text(f"{value}\n")
    problem, hint = fitness.reason("bwrap: Operation not permitted", tmp_path)
    assert problem
    assert remedy in hint


def test_needs_a_python_for_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "PYTHON", "/nowhere/python3")
    with pytest.raises(BackendError, match="is missing") as caught:
        fitness.check_machine(platform="linux", environ=ENVIRON)
    assert "apt-get install -y python3" in str(caught.value.hint)


def test_says_what_a_refused_sandbox_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "system_links", lambda: {"/bin": "nowhere"})
    said = fitness.try_sandbox()
    assert "No such file" in said
    assert shutil.which("bwrap")
