from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cli_shell import MANIFEST, Shell


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_appends_committed_events_to_the_log_file(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    shell.apply("--log-file", log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == [k for k in shell.kinds() if k != "lock"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    shell.run("destroy", "implementer", "--yes", "--log-file", log)
    more = [json.loads(line) for line in log.read_text().splitlines()]
    assert more[: len(lines)] == lines
    assert more[-1]["to"] == "torn_down"


def test_prints_log_lines_instead_of_the_table_when_asked(shell: Shell) -> None:
    ended = shell.run("--log", "json", "apply", shell.manifest, "implementer")
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert len({line["ca_sha256"] for line in lines if "ca_sha256" in line}) == 1
    assert [line["sequence"] for line in lines] == sorted(line["sequence"] for line in lines)
    assert lines[-1]["to"] == "provisioned"
    assert "demo/implementer  provisioned" not in ended.err


def test_refuses_a_log_file_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    ended = shell.apply("--log-file", tmp_path / "no" / "log")
    assert ended.code == 1
    assert "log: cannot be written: No such file or directory.\n" in ended.err
    assert shell.kinds() == []


def test_never_shows_a_secret(shell: Shell, tmp_path: Path) -> None:
    canary = "canary-0123456789abcdef"
    shell.env["TOKEN"] = canary
    secret = 'COLOUR: blue, TOKEN: {from: "${TOKEN}", secret: true, to: [example.org]}'
    shell.manifest.write_text(MANIFEST.replace("COLOUR: blue", secret))
    log = tmp_path / "log"
    shown = [
        shell.run("plan", shell.manifest),
        shell.run("plan", shell.manifest, "--json"),
        shell.apply("--log-file", log, "--json"),
        shell.run("status", "--json"),
        shell.run("status", "implementer"),
        shell.run("audit", "--json"),
        shell.run("audit", "export"),
    ]
    assert all(ended.code == 0 for ended in shown)
    assert canary not in "".join(ended.out + ended.err for ended in shown) + log.read_text()
    assert "TOKEN (secret, may go to example.org)" in shown[0].out


def test_keeps_control_characters_of_a_manifest_off_the_screen(shell: Shell, tmp_path: Path) -> None:
    odd = tmp_path / "a\x1b]0;title\x07\nb.yaml"
    odd.write_text(MANIFEST.replace("egress:", "egres:"))
    err = shell.run("apply", odd).err
    assert "\x1b" not in err
    assert "a\\x1b]0;title\\x07\\nb.yaml" in err
