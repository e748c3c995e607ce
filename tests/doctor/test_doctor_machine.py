"""Doctor on this machine, for real: as root and not, and with things taken away."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.client import Engine
from bottle_fsm.store.root import open_root
from cli_shell import Shell
from doctor_patient import (
    NOWHERE,
    Patient,
    Seen,
    half_dead_engine,
    in_mount_namespace,
    in_user_namespace,
    unprivileged,
    version_answer,
)

FORBID = "echo 0 > /proc/sys/user/max_user_namespaces"


@pytest.fixture(name="patient")
def _patient(tmp_path: Path) -> Patient:
    (tmp_path / "home").mkdir()
    return Patient(tmp_path / "state", tmp_path / "home")


def test_finds_sandboxes_without_an_engine(patient: Patient) -> None:
    seen = patient.seen()
    assert seen.code == 0, seen.out
    assert seen.outcome == {
        "type": "outcome",
        "outcome": "ok",
        "exit_code": 0,
        "backends": ["local"],
        "auto": "local",
    }
    assert seen.level("engine", "answers") == "failed"
    assert NOWHERE in seen.found("engine", "answers")
    assert "DOCKER_HOST" in seen.found("engine", "answers")
    assert {row["level"] for (area, _), row in seen.rows.items() if area == "sandbox"} <= {"ok", "warning"}
    who = "to which root drops" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    assert who in seen.found("sandbox", "trial")
    assert seen.level("backends", "docker") == "failed"
    assert "would take local: no container engine answers" in seen.found("backends", "auto")
    assert seen.err == ""


def test_changes_nothing(patient: Patient) -> None:
    patient.seen()
    assert not patient.state.exists()
    assert list(patient.home.iterdir()) == []


def test_finds_sandboxes_for_an_ordinary_user() -> None:
    with unprivileged() as patient:
        seen = patient.seen()
        assert seen.code == 0, seen.out + seen.err
        assert seen.outcome["backends"] == ["local"]
        assert "to which root drops" not in seen.found("sandbox", "trial")
        assert seen.level("sandbox", "trial") == "ok"
        where = str(patient.home / ".local/share/bottle-fsm/sidecars")
        assert seen.found("sidecars", "environment").startswith(where)
        assert "will be made at the first launch" in seen.found("sidecars", "environment")
        assert list(patient.home.iterdir()) == []


def test_finds_nothing_with_an_empty_path(patient: Patient) -> None:
    patient.env = {"PATH": ""}
    seen = patient.seen()
    assert (seen.code, seen.outcome["outcome"], seen.outcome["backends"]) == (1, "no_backend", [])
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux"), ("unshare", "util-linux")):
        assert seen.level("sandbox", program) == "failed"
        assert f"apt-get install -y {package}" in seen.remedy("sandbox", program)
    assert seen.level("sandbox", "trial") == "failed"
    assert "see sandbox/bwrap" in seen.found("backends", "local")
    assert seen.level("backends", "auto") == "failed"


def test_says_why_when_user_namespaces_are_forbidden(patient: Patient) -> None:
    patient.before = in_user_namespace(FORBID)
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    assert seen.level("sandbox", "bwrap") == "ok"
    assert seen.found("sandbox", "trial") == "user namespaces are forbidden (user.max_user_namespaces is 0)"
    assert "sysctl -w user.max_user_namespaces=15000" in seen.remedy("sandbox", "trial")


def test_says_why_when_root_is_only_root_of_a_small_user_namespace(patient: Patient) -> None:
    patient.before = in_user_namespace(":")
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    assert "which this user namespace does not have" in seen.found("sandbox", "trial")
    assert "as an ordinary user" in seen.remedy("sandbox", "trial")


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://-oProxyCommand=x", "what?", "unix:///"])
def test_says_that_nobody_answers_at_an_address(patient: Patient, host: str) -> None:
    patient.env = {"DOCKER_HOST": host, "no_proxy": "127.0.0.1"}
    seen = patient.seen()
    assert seen.outcome["backends"] == ["local"]
    assert seen.level("engine", "answers") == "failed"
    assert seen.remedy("engine", "answers")


def test_says_that_a_docker_context_does_not_exist(patient: Patient) -> None:
    patient.env = {"DOCKER_HOST": "unset", "DOCKER_CONTEXT": "lost"}
    seen = patient.seen()
    assert seen.outcome["backends"] == ["local"]
    assert "the docker context 'lost' does not exist" in seen.found("engine", "answers")
    assert "DOCKER_CONTEXT=lost" in seen.found("engine", "answers")
    assert "docker context ls" in seen.remedy("engine", "answers")


def test_does_not_wait_for_an_engine_that_never_answers(patient: Patient, tmp_path: Path) -> None:
    with half_dead_engine(tmp_path) as url:
        patient.env = {"DOCKER_HOST": url}
        began = time.monotonic()
        seen = patient.seen()
        assert time.monotonic() - began < 15
    assert seen.outcome["backends"] == ["local"]
    assert "did not answer in time" in seen.found("engine", "answers")
    assert (seen.level("backends", "auto"), seen.outcome["auto"]) == ("ok", "local")
    assert "the engine does not answer, after 30 s of waiting" in seen.found("backends", "auto")
    assert seen.found("state", "leftovers") == "none; today's docker engine was not looked at"


def test_leaves_no_process_behind_that_waits_for_an_engine(patient: Patient, tmp_path: Path) -> None:
    client, pids = tmp_path / "bin" / "ssh", tmp_path / "pids"
    client.parent.mkdir()
    client.write_text(f"#!/bin/sh\necho $$ >>{pids}\ntrap '' TERM\nexec sleep 600\n")
    client.chmod(0o755)
    patient.env = {"DOCKER_HOST": "ssh://me@example.org", "PATH": f"{client.parent}:{os.environ['PATH']}"}
    seen = patient.seen()
    assert seen.outcome["backends"] == ["local"]
    assert seen.level("engine", "answers") == "failed"
    started = [Path("/proc", pid, "cmdline") for pid in pids.read_text().split()]
    assert started
    assert not any(command.exists() and command.read_bytes() for command in started)  # one that is dead has none


def test_does_not_trust_an_engine_that_falls_silent(patient: Patient, tmp_path: Path) -> None:
    with half_dead_engine(tmp_path, [version_answer("99.1\x1b[31m")]) as url:
        patient.env = {"DOCKER_HOST": url}
        began = time.monotonic()
        seen = patient.seen()
        assert time.monotonic() - began < 20
        patient.words = ()
        shown = patient.seen().out
    assert "version 99.1" in seen.found("engine", "answers")
    assert seen.level("engine", "looked at") == "failed"
    assert seen.outcome["backends"] == ["local"]
    assert (seen.outcome["auto"], seen.level("backends", "auto")) == ("docker", "warning")
    assert "apply --backend local" in seen.remedy("backends", "auto")
    assert "\x1b" not in shown
    assert "99.1\\x1b[31m" in shown


@pytest.mark.parametrize("words", [("--json",), ()])
def test_keeps_the_password_of_an_address_to_itself(patient: Patient, words: tuple[str, ...]) -> None:
    patient.env = {"DOCKER_HOST": "ssh://me:sesame-open@127.0.0.1"}
    patient.words = words
    seen = patient.seen()
    assert "sesame-open" not in seen.out + seen.err
    assert "DOCKER_HOST holds a password, which would stand in the journal" in seen.out


def test_cannot_launch_with_a_state_directory_that_is_read_only(patient: Patient) -> None:
    open_root(patient.state)
    patient.before = in_mount_namespace(
        f"mount --bind {patient.state} {patient.state}; mount -o remount,ro,bind {patient.state}"
    )
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    assert "cannot be written (permissions, or mounted read-only)" in seen.found("state", "directory")
    assert "state/directory" in seen.found("backends", "local") or os.geteuid() != 0


def test_cannot_launch_with_a_state_directory_that_an_ordinary_user_may_not_write() -> None:
    with unprivileged("locked/state") as patient:
        patient.state.parent.mkdir(mode=0o555)
        seen = patient.seen()
        assert (seen.code, seen.outcome["backends"]) == (1, [])
        assert f"{patient.state} is not there, and {patient.state.parent} cannot be written" in seen.found(
            "state", "directory"
        )
        assert "--state-dir" in seen.remedy("state", "directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_cannot_look_into_another_users_state_directory() -> None:
    with unprivileged() as patient:
        patient.state.mkdir(mode=0o700)
        seen = patient.seen()
        assert (seen.code, seen.outcome["backends"]) == (1, [])
        assert "belongs to uid 0" in seen.found("state", "directory")


@pytest.mark.parametrize("name", ["journal.sqlite3", "root.json"])
def test_says_what_is_damaged(tmp_path: Path, patient: Patient, name: str) -> None:
    shell = Shell(tmp_path / "home")
    shell.apply()
    (shell.state / name).write_text("not what it was" * 99)
    patient.state = shell.state
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    area = ("state", "journal") if name.startswith("journal") else ("state", "identity")
    assert seen.level(*area) == "failed"
    assert "backup" in seen.remedy(*area) or "--state-dir" in seen.remedy(*area)
    assert seen.level("state", "leftovers") == "warning"


def test_cannot_launch_where_a_file_is_in_the_place_of_the_directory(patient: Patient) -> None:
    patient.state.touch()
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    assert f"{patient.state} is no directory" in seen.found("state", "directory")


def test_cannot_launch_from_a_state_directory_of_another_machine(patient: Patient) -> None:
    open_root(patient.state, machine_id="another")
    seen = patient.seen()
    assert (seen.code, seen.outcome["backends"]) == (1, [])
    assert "made on another machine" in seen.found("state", "identity")


def test_lists_leftovers_and_live_bottles(tmp_path: Path, patient: Patient) -> None:
    (tmp_path / "shell").mkdir()
    shell = Shell(tmp_path / "shell")
    shell.apply()
    shell.run("apply", shell.manifest, "reviewer")
    kept = shell.world.objects()
    shell.run("destroy", "implementer", "--yes")
    (guard,) = (o for o in kept if o.labels["bottle-fsm.bottle"] == "demo/implementer" and "pipelock" in o.name)
    shell.world.create(guard.kind, guard.name, dict(guard.labels))
    patient.state = shell.state
    seen = patient.seen()
    assert seen.code == 0
    assert seen.found("state", "journal") == "opens; 2 bottles, 1 not torn down: demo/reviewer"
    assert seen.level("state", "leftovers") == "warning"
    assert f"1 object of no live bottle: demo/implementer container {guard.name}" in seen.found("state", "leftovers")
    assert "bottle-fsm gc" in seen.remedy("state", "leftovers")
    assert guard.name in {o.name for o in shell.world.objects()}


def test_shows_people_what_to_do(patient: Patient) -> None:
    patient.words = ()
    seen = patient.seen()
    assert seen.code == 0
    lines = seen.out.splitlines()
    areas = [line for line in lines if line and not line.startswith(" ")]
    assert areas == ["engine", "sandbox", "sidecars", "guard", "state", "backends", "Bottles can run here: local."]
    assert any(line.startswith("  ✗ answers  no engine answers at") for line in lines)
    assert any(line.startswith("             → Start it") for line in lines)


def test_uses_words_on_a_terminal_that_has_no_marks(patient: Patient) -> None:
    patient.words, patient.env = (), {"PYTHONIOENCODING": "ascii"}
    lines = patient.seen().out.splitlines()
    assert any(line.startswith("  FAIL answers  no engine") for line in lines)
    assert any(line.startswith("  ok   trial") for line in lines)
    assert "\\u2713" not in "".join(lines)


def test_says_that_no_bottle_can_run(patient: Patient) -> None:
    patient.words, patient.env = (), {"PATH": ""}
    seen = patient.seen()
    assert seen.code == 1
    assert seen.out.endswith("\nNo bottle can run here. Do what stands beside the failed rows.\n")


@pytest.mark.engine
def test_finds_everything_on_a_real_engine(patient: Patient, engine: Engine, engine_host: str) -> None:
    patient.env = {"DOCKER_HOST": engine_host}
    seen = patient.seen()
    assert seen.code == 0, seen.out
    assert (seen.outcome["backends"], seen.outcome["auto"]) == (["docker", "local"], "docker")
    assert f"version {engine.version}, API {engine.api_version}, at {engine.url}" in seen.found("engine", "answers")
    with engine.guarded("look") as api:
        info = api.info()
    assert info["DockerRootDir"] in seen.found("engine", "storage")
    if info["Name"] == os.uname().nodename:
        free = shutil.disk_usage(info["DockerRootDir"]).free / (1 << 30)
        told = float(seen.found("engine", "storage").split(", ")[1].split(" ")[0])
        assert abs(told - free) < 2
    assert ("runsc" in info["Runtimes"]) == (seen.level("engine", "runsc") == "ok")
    assert "subnets (/29) free in 10.213.0.0/16" in seen.found("engine", "networks")
    assert ("engine", "bottle-agent") in seen.rows
    assert "would take docker: an engine answers" in seen.found("backends", "auto")


def test_seen_is_complete(patient: Patient) -> None:
    seen: Seen = patient.seen()
    for row in seen.rows.values():
        assert set(row) == {"type", "area", "name", "level", "found", "remedy"}
        assert row["type"] == "check"
        assert bool(row["remedy"]) == (row["level"] != "ok")
        assert row["found"]
