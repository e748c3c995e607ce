"""Checks against this host, with real files: each message, and nothing raised."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.manifest.hostcheck import MAX_PROMPT_BYTES, skill_source, validate_host
from bottle_fsm.manifest.model import Manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Host

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    home = tmp_path / "home"
    (home / ".claude/skills/review").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    return Host(root_id="r", state_dir=tmp_path / "project/state", home=home, environ={"SET": "value"})


def spec_of(host: Host, *, agent: dict[str, Any] | None = None, reach: dict[str, Any] | None = None) -> BottleSpec:
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "name": "demo",
            "bottles": {"dev": reach or {}},
            "agents": {"one": {"bottle": "dev", **(agent or {})}},
        }
    )
    return specs(manifest, host.home.parent / "project/m.yaml")[0]


def found(host: Host, **parts: dict[str, Any]) -> list[str]:
    base = f"{host.home.parent}/"
    return [str(problem).replace(base, "") for problem in validate_host(spec_of(host, **parts), host)]


def ssh(path: str) -> dict[str, Any]:
    return {"ssh": [{"host": "a.b", "user": "git", "identity_file": path, "known_host_key": HOST_KEY}]}


def test_accepts_what_is_here(host: Host, tmp_path: Path) -> None:
    (tmp_path / "project/skills/greet").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.home / "key"], check=True)
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            tmp_path / "project/ca.key",
            "-out",
            tmp_path / "project/ca.pem",
        ],
        check=True,
        capture_output=True,
    )
    agent = {"skills": ["review", "./skills/greet"], "workspace": {"source": "."}, "prompt": "Hello"}
    reach = {"env": {"A": "${SET}"}, "egress": {"upstream_ca": ["ca.pem"]}, **ssh("~/key")}
    assert found(host, agent=agent, reach=reach) == []


def test_reports_a_missing_agent(host: Host) -> None:
    manifest = Manifest.model_validate({"version": 1, "name": "demo", "bottles": {}, "agents": {}})
    spec = specs(manifest, Path("/p/m.yaml"), ["ghost"])[0]
    assert [str(problem) for problem in validate_host(spec, host)] == [
        "/p/m.yaml agents: there is no agent `ghost`. Name an agent that stands under `agents` in /p/m.yaml"
    ]


def test_reports_a_missing_bottle(host: Host) -> None:
    value = {"version": 1, "name": "demo", "bottles": {}, "agents": {"one": {"bottle": "dev"}}}
    spec = specs(Manifest.model_validate(value), Path("/p/m.yaml"))[0]
    assert [str(problem) for problem in validate_host(spec, host)] == [
        "/p/m.yaml agents/one/bottle: there is no bottle `dev`. Add it under `bottles`"
    ]


def test_reports_skills_that_are_not_directories(host: Host, tmp_path: Path) -> None:
    (tmp_path / "project/file").write_text("")
    assert found(host, agent={"skills": ["none", "./file", "/"]}) == [
        (
            "project/m.yaml agents/one/skills/0: the skill `none` is no directory at home/.claude/skills/none. "
            "Create it, or correct the name"
        ),
        (
            "project/m.yaml agents/one/skills/1: the skill `./file` is no directory at project/file. "
            "Name the directory, not a file in it"
        ),
        "project/m.yaml agents/one/skills/2: the skill `/` has no name. Name a directory below the root",
    ]


def test_reports_a_skill_that_cannot_be_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.home / ".claude/skills/review").chmod(0)
    if os.geteuid() == 0:
        # Root reads everything; the question is then what is said when the system says no.
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert found(host, agent={"skills": ["review"]}) == [
        (
            "project/m.yaml agents/one/skills/0: the skill `review` at home/.claude/skills/review cannot be read. "
            "Give yourself the right to"
        )
    ]


def test_reports_skills_of_the_same_name(host: Host, tmp_path: Path) -> None:
    (tmp_path / "project/review").mkdir()
    assert found(host, agent={"skills": ["review", "./review/"]}) == [
        (
            "project/m.yaml agents/one/skills/1: the skills `review` and `./review/` would both be named `review`. "
            "Rename one directory"
        )
    ]


def test_reports_a_prompt_that_is_too_long(host: Host) -> None:
    assert found(host, agent={"prompt": "é" * 65536}) == [
        (
            "project/m.yaml agents/one/prompt: the prompt has 131072 bytes, more than 131071. "
            "Move parts of it into a skill or the workspace"
        )
    ]
    assert found(host, agent={"prompt": "x" * MAX_PROMPT_BYTES}) == []


def test_reports_a_missing_workspace(host: Host) -> None:
    assert found(host, agent={"workspace": {"source": "gone"}}) == [
        (
            "project/m.yaml agents/one/workspace/source: the workspace project/gone is no directory. "
            "Create it, or correct `source`"
        )
    ]
    assert found(host, agent={"workspace": {"source": "gone", "mode": "none"}}) == []


def test_refuses_to_bind_the_journal_into_a_bottle(host: Host) -> None:
    assert found(host, agent={"workspace": {"mode": "bind"}}) == [
        (
            "project/m.yaml agents/one/workspace/source: binding project would give the agent the launch journal in "
            "project/state. Name a directory that does not hold the state directory"
        )
    ]
    assert found(host, agent={"workspace": {"source": "~", "mode": "bind"}}) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the identity file home/key does not exist. Correct the path or its permissions"),
        (f"{HOST_KEY} me@here\n", "home/key is a public key. Name the private key, without `.pub`"),
        ("hello\n", "home/key is no private key. Name a key that ssh-keygen made"),
        ("", "home/key is no private key. Name a key that ssh-keygen made"),
        ("x" * 65537, "the identity file home/key is larger than 64 KiB. Correct the path or its permissions"),
    ],
)
def test_reports_identity_files_that_do_not_resolve(host: Host, content: str | None, words: str) -> None:
    if content is not None:
        (host.home / "key").write_text(content)
    assert found(host, reach=ssh("~/key")) == [f"project/m.yaml bottles/dev/ssh/0/identity_file: {words}"]


def test_reports_an_identity_file_that_is_a_directory(host: Host) -> None:
    assert "the identity file home is a directory" in found(host, reach=ssh("~"))[0]


def test_reports_a_pipe_for_an_identity_file_without_waiting(host: Host) -> None:
    os.mkfifo(host.home / "key")
    assert "the identity file home/key is not a regular file" in found(host, reach=ssh("~/key"))[0]


def test_reports_an_identity_file_that_the_system_refuses(host: Host) -> None:
    assert "cannot be read (File name too long)" in found(host, reach=ssh("~/" + "x" * 300))[0]


@pytest.mark.parametrize("kind", ["OPENSSH PRIVATE", "RSA PRIVATE", "EC PRIVATE", "ENCRYPTED PRIVATE", "PRIVATE"])
def test_accepts_each_kind_of_private_key(host: Host, kind: str) -> None:
    (host.home / "key").write_text(f"-----BEGIN {kind} KEY-----\nAAAA\n-----END {kind} KEY-----\n")
    assert found(host, reach=ssh("~/key")) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the CA file project/ca.pem does not exist. Correct the path or its permissions"),
        ("hello", "project/ca.pem holds no valid PEM certificates. Name a file in PEM format"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "project/ca.pem holds no valid PEM certificates. Name a file in PEM format",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "project/ca.pem holds a private key. Name a file with certificates alone",
        ),
    ],
)
def test_reports_ca_files_that_are_none(host: Host, tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "project/ca.pem").write_text(content)
    assert found(host, reach={"egress": {"upstream_ca": ["ca.pem"]}}) == [
        f"project/m.yaml bottles/dev/egress/upstream_ca/0: {words}"
    ]


def test_reports_undefined_variables(host: Host) -> None:
    assert found(host, reach={"env": {"A": "${NOT_SET}"}}) == [
        "project/m.yaml bottles/dev/env/A: the host variable `NOT_SET` is not set. Set it, or write ${NOT_SET:-default}"
    ]


def test_reports_everything_together_at_the_places_it_is_given(host: Host) -> None:
    spec = spec_of(host, agent={"skills": ["none"]}, reach={"env": {"A": "${NOT_SET}"}, **ssh("gone")})
    problems = validate_host(spec, host, place=lambda *keys: f"m.yaml:7 {keys[0]}")
    assert [problem.place for problem in problems] == ["m.yaml:7 agents", "m.yaml:7 bottles", "m.yaml:7 bottles"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("review", "home/.claude/skills/review"),
        ("./a", "project/a"),
        ("../a/", "a"),
        ("a/b", "project/a/b"),
        (".", "project"),
        ("~/a", "home/a"),
        ("/abs/x", "/abs/x"),
    ],
)
def test_finds_skills_by_name_and_by_path(host: Host, name: str, source: str) -> None:
    assert skill_source(name, spec_of(host), host.home) == host.home.parent / source
