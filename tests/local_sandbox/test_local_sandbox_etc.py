from __future__ import annotations

import os
from pathlib import Path

import pytest

from bottle_fsm.backend.local import etc
from local_sandbox.sandbox_room import Room


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An /etc with things in it that are nobody else's."""
    path = tmp_path / "host-etc"
    for folder in ("ssl/certs", "ssl/private", "ssh", "profile.d"):
        (path / folder).mkdir(parents=True)
    for name, mode in (
        *(("shadow", 0o640), ("machine-id", 0o444), ("ssh/ssh_host_key", 0o600), ("fstab", 0o644)),
        *(("ssl/private/server.key", 0o644), ("ssl/server.key", 0o600), ("ssl/group.key", 0o640)),
        *(("ssl/certs/one.pem", 0o644), ("profile.d/all.sh", 0o644), ("profile.d/own.sh", 0o600)),
        *(("resolv.conf", 0o644), ("hosts", 0o644), ("environment", 0o644), ("passwd", 0o644)),
    ):
        (path / name).write_text(f"the host's {name}")
        (path / name).chmod(mode)
    (path / "ssl/certs/link.0").symlink_to("one.pem")
    (path / "ssl/certs/java").mkdir()
    (path / "ssl/certs/java/cacerts").write_text("a store")
    (path / "ssl/away.pem").symlink_to(path / "ssl/server.key")
    (path / "ssl/closed").mkdir(mode=0o700)
    (path / "ssl/closed/open.pem").write_text("inside a closed directory")
    os.mkfifo(path / "ssl/fifo")
    monkeypatch.setattr(etc, "HOST", path)
    return path


def filled(target: Path, *, network: bool = False, agent: bool = True) -> set[str]:
    etc.fill_etc(target, hostname="bottle-x", network=network, agent=agent)
    return {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}


def test_only_listed_names_that_everybody_may_read_are_copied(host: Path, tmp_path: Path) -> None:
    assert filled(tmp_path / "etc") == {
        *("ssl/certs/java/cacerts", "ssl/away.pem", "profile.d/all.sh"),
        *("passwd", "group", "nsswitch.conf", "hostname", "environment", "shells", "hosts"),
    }


def test_nothing_of_the_hosts_own_words_comes_along(host: Path, tmp_path: Path) -> None:
    filled(tmp_path / "etc")
    for name in ("passwd", "hosts", "environment", "hostname"):
        assert "the host's" not in (tmp_path / "etc" / name).read_text()


def test_links_stay_links_and_bring_no_content(host: Path, tmp_path: Path) -> None:
    filled(tmp_path / "etc")
    assert (tmp_path / "etc/ssl/away.pem").is_symlink()


def test_a_sidecar_gets_nothing_of_an_agents_tools(host: Path, tmp_path: Path) -> None:
    assert filled(tmp_path / "etc", agent=False) == {
        *("passwd", "group", "nsswitch.conf", "hostname", "environment", "shells", "hosts"),
    }


def test_the_guard_resolves_names_as_the_host_does_and_nobody_else(host: Path, tmp_path: Path) -> None:
    assert {"resolv.conf", "hosts"} <= filled(tmp_path / "guard", network=True)
    assert (tmp_path / "guard/hosts").read_text() == "the host's hosts"
    assert "dns" in (tmp_path / "guard/nsswitch.conf").read_text()
    assert "resolv.conf" not in filled(tmp_path / "agent")
    assert "dns" not in (tmp_path / "agent/nsswitch.conf").read_text()


def test_the_trust_store_is_private_and_empty_until_it_is_made(host: Path, tmp_path: Path) -> None:
    filled(tmp_path / "etc")
    assert [path.name for path in (tmp_path / "etc/ssl/certs").iterdir()] == ["java"]
    (tmp_path / "etc/ssl/certs/java/cacerts").write_text("changed")
    assert (host / "ssl/certs/java/cacerts").read_text() == "a store"


def test_programs_inside_find_users_names_and_roots(room: Room) -> None:
    answers = room.report("""
import json, os, pwd, socket, ssl, subprocess
said = subprocess.run(["sh", "-lc", "id -un; id -gn; hostname"], capture_output=True, text=True)
roots = len(ssl.create_default_context().get_ca_certs())
try:
    socket.getaddrinfo("example.org", 443)
except socket.gaierror:
    named = False
print(json.dumps([said.stdout.split(), pwd.getpwnam("agent").pw_dir, roots, named, sorted(os.listdir("/etc"))]))
""")
    names = set(answers.pop())
    assert answers[:2] == [["agent", "agent", "bottle-agent"], "/home/agent"]
    assert answers[2] == 0, "nobody is trusted before the bottle's CA is"
    assert answers[3] is False
    assert names.isdisjoint({"shadow", "gshadow", "resolv.conf", "machine-id", "ssh", "sudoers", "fstab", "crontab"})
