from __future__ import annotations

import re
from pathlib import Path

import pytest

from bottle_fsm.backend.choose import Choice
from bottle_fsm.model import Host
from cli_shell import MANIFEST, Shell

FINGERPRINT = re.compile(r"CA SHA-256 fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}\n")


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_shows_every_state_with_its_duration_and_the_proofs(shell: Shell) -> None:
    ended = shell.apply()
    assert ended.code == 0
    assert ended.out == ""
    states = re.findall(r"^demo/implementer  (\w+) +\d+\.\d\d s$", ended.err, re.MULTILINE)
    assert states == ["validated", "planned", "proxies_up", "mitm_up", "agent_up", "ca_trusted", "provisioned"]
    assert len(FINGERPRINT.findall(ended.err)) == 1
    assert re.search(r"^demo/implementer +ok +simulated$", ended.err, re.MULTILINE)
    assert ended.err.count("  simulated\n") == 1, "the second, equal matrix is not told again"
    row = r"^demo/implementer +ok +agent's networks  inside only  inside only  0 ms$"
    assert re.search(row, ended.err, re.MULTILINE)


def test_says_how_to_go_on(shell: Shell) -> None:
    err = shell.apply().err
    assert "demo/implementer: is ready\n" in err
    for verb in ("attach", "status", "logs", "audit", "destroy"):
        assert f"bottle-fsm {verb} demo/implementer" in err


def test_aims_its_advice_at_the_state_directory_that_was_named(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "an other"
    assert f"bottle-fsm --state-dir '{other}' attach demo/implementer" in shell.apply("--state-dir", other).err


def test_changes_nothing_the_second_time_and_says_so(shell: Shell) -> None:
    shell.apply()
    before = shell.ids()
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer: unchanged: nothing to do\n" in ended.err
    assert shell.ids() == before


def test_tells_a_retry_with_its_cause(shell: Shell) -> None:
    shell.run("status")
    shell.goes_wrong("create", "transient", "guard")
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer  proxies_up attempt 1 failed: create guard: the engine is busy\n" in ended.err
    assert re.search(r"^    attempt 2 follows in 0\.\d s$", ended.err, re.MULTILINE)


def test_tells_a_repair_with_its_cause(shell: Shell) -> None:
    shell.apply()
    guard = next(o for o in shell.world.objects() if o.labels["bottle-fsm.role"] == "guard")
    shell.world.stop(guard.id)
    ended = shell.apply()
    assert ended.code == 0
    assert f"demo/implementer  repair: guard {guard.name}: exited with code 137\n" in ended.err
    assert "start guard (exited with code 137)" in ended.err
    assert "demo/implementer: is ready, repaired\n" in ended.err


def test_tells_a_revision_with_the_changed_key(shell: Shell) -> None:
    shell.apply()
    shell.manifest.write_text(MANIFEST.replace("Do it.", "Do it well."))
    ended = shell.apply()
    assert ended.code == 0
    assert "demo/implementer  revise: manifest changed: manifest.agents.implementer.prompt\n" in ended.err
    assert "demo/implementer: is ready, as the manifest says now\n" in ended.err


def test_tells_who_guards_and_what_to_be_warned_of(shell: Shell) -> None:
    shell.env["SHORT"] = "tiny"
    secret = 'COLOUR: blue, SHORT: {from: "${SHORT}", secret: true, to: [example.org]}'
    shell.manifest.write_text(MANIFEST.replace("COLOUR: blue", secret))
    err = shell.apply().err
    assert "demo/implementer      guard builtin: the fake backend simulates it\n" in err
    assert "demo/implementer      warning: the secret `SHORT` is shorter than 12 bytes" in err


def test_says_which_backend_auto_took_and_why(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.manifest.write_text(MANIFEST.replace("backend: fake\n", ""))
    asked: list[str] = []

    def choose(name: str, _host: Host) -> Choice:
        asked.append(name)
        return Choice("fake", "a test says so")

    monkeypatch.setattr("bottle_fsm.cli.verbs.apply.choose", choose)
    ended = shell.run("apply", shell.manifest)
    assert ended.code == 0
    assert ended.err.startswith("backend auto takes fake: a test says so\n")
    assert asked == ["auto"], "once for all bottles"
    again = shell.run("apply", shell.manifest)
    assert again.code == 0
    assert "auto takes" not in again.err, "a bottle that lives stays where it is"
    assert asked == ["auto"]


def test_needs_an_engine_only_after_the_manifest_is_right(shell: Shell, tmp_path: Path) -> None:
    shell.env["DOCKER_HOST"] = f"unix://{tmp_path}/no.sock"
    shell.env["PATH"] = str(tmp_path)  # no bubblewrap either
    ended = shell.apply("--backend", "auto")
    assert ended.code == 1
    assert "error: backend auto: no container engine answers" in ended.err
    assert "no sandbox can run here (bwrap is missing)" in ended.err
    assert shell.kinds() == []
