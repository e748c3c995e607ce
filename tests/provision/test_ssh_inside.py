from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.places import SSH_AUTH_SOCK
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision import sshagent
from bottle_fsm.provision.ssh import SshProvisioner
from bottle_fsm.provision.sshfiles import CONFIG, KNOWN_HOSTS
from bottle_fsm.secret import Secret
from provision_bench import Bench, RecordedStep, RecordedSteps

pytestmark = pytest.mark.engine

PASSPHRASE = "correct horse 'battery' \\ staple"
MakeKey = Callable[..., Path]


@pytest.fixture
def make_key(tmp_path: Path) -> MakeKey:
    def make(name: str = "id", passphrase: str = "", *options: str) -> Path:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(tmp_path / name), *options]
        subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return tmp_path / name

    return make


@pytest.fixture
def host_key(make_key: MakeKey) -> str:
    return " ".join(make_key("host").with_suffix(".pub").read_text().split()[:2])


@pytest.fixture
def fresh(bench: Bench, network: str, images: dict[str, ImageRef]) -> DockerBottle:
    return bench.agent(images["agent"].id, network)


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True)
    return listed.stdout.split()[1]


def item(host_key: str, *keys: Path, host: str = "git.example.com", port: int = 22) -> ProvisionItem:
    hosts = [
        {
            "host": host if number == 0 else f"n{number}.example.com",
            "user": "git",
            "port": port,
            "identity_file": str(key),
            "known_host_key": host_key,
        }
        for number, key in enumerate(keys)
    ]
    return ProvisionItem("ssh", asked=True, inputs={"hosts": hosts})


def apply(bottle: DockerBottle, what: ProvisionItem, *answers: str) -> dict[str, Any]:
    step, steps = RecordedStep(), RecordedSteps(answers=list(answers))
    SshProvisioner().apply(bottle, what, steps, step)
    SshProvisioner().verify(bottle, what)
    assert steps.answers == []
    found: dict[str, Any] = step.findings["ssh"]
    return found


def test_gives_the_ssh_agent_a_key_bound_to_its_host(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    key = make_key()
    evidence = apply(fresh, item(host_key, key))
    assert fresh.exec(["ssh-add", "-l"]).text.split()[1] == fingerprint(key)
    assert evidence == {
        "hosts": ["git@git.example.com:22"],
        "keys": {str(key): fingerprint(key)},
        "given": True,
        "agent": "started",
    }
    assert fresh.exec(["stat", "-c", "%U", SSH_AUTH_SOCK]).text == "agent"


def test_writes_files_that_ssh_understands(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    apply(fresh, item(host_key, make_key(), port=2222))
    shown = fresh.exec(["ssh", "-G", "git.example.com"]).text.splitlines()
    for line in (
        "user git",
        "port 2222",
        "stricthostkeychecking true",
        "proxycommand nc -X connect -x 192.0.2.9:8081 %h %p",
        f"userknownhostsfile {KNOWN_HOSTS}",
        f"identityagent {SSH_AUTH_SOCK}",
    ):
        assert line in shown
    found = fresh.exec(["ssh-keygen", "-F", "[git.example.com]:2222", "-f", KNOWN_HOSTS]).text
    assert host_key in found
    assert fresh.exec(["stat", "-c", "%a %U", CONFIG, KNOWN_HOSTS]).text == "600 agent\n600 agent"
    other = fresh.exec(["ssh", "-G", "elsewhere.example.com"]).text
    assert "nc -X" not in other


def test_lets_the_user_add_hosts_but_not_loosen_ours(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    apply(fresh, item(host_key, make_key()))
    extra = b"Host other\n  Port 99\nHost *\n  StrictHostKeyChecking no\n"
    fresh.copy_in(extra, "/home/agent/.ssh/config.d/mine.conf")
    assert "port 99" in fresh.exec(["ssh", "-G", "other"]).text.splitlines()
    assert "stricthostkeychecking true" in fresh.exec(["ssh", "-G", "git.example.com"]).text


def test_starts_one_ssh_agent_and_asks_for_nothing_twice(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    what = item(host_key, make_key("locked", PASSPHRASE))
    assert apply(fresh, what, PASSPHRASE)["given"] is True
    evidence = apply(fresh, what)
    assert (evidence["given"], evidence["agent"]) == (False, "was running")
    assert fresh.exec(["pgrep", "-c", "-x", "ssh-agent"]).text == "1"


def test_leaves_neither_key_nor_passphrase_behind(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    plain, locked = make_key("plain"), make_key("locked", PASSPHRASE)
    apply(fresh, item(host_key, plain, locked), PASSPHRASE)
    needles = [line for key in (plain, locked) for line in key.read_text().splitlines()[2:4]] + [PASSPHRASE]
    with fresh._engine.guarded("diff") as api:
        changed = [entry["Path"] for entry in api.diff(fresh._id)]
    places = [path for path in changed if path.startswith(("/home", "/etc", "/tmp", "/var", "/root"))]
    assert "/home/agent/.ssh/config" in places
    for needle in needles:
        script = 'IFS= read -r needle; find "$@" -type f -exec grep -lF -e "$needle" {} + 2>/dev/null; exit 0'
        searched = [*places, "/run/bottle", "/dev/shm"]
        assert fresh.exec(["sh", "-c", script, "sh", *searched], stdin=needle.encode() + b"\n").text == ""
        processes = (
            "IFS= read -r needle; for p in /proc/[0-9]*; do "
            'case "$(cat "$p/cmdline" "$p/environ" 2>/dev/null | tr "\\0" "\\n")" in *"$needle"*) echo "$p"; esac; done'
        )
        assert fresh.exec(["sh", "-c", processes], stdin=needle.encode() + b"\n").text == ""
    assert fresh.exec(["ls", "-A", "/run/bottle"]).text.split() == [".lock-1000", "ssh-agent.sock"]
    assert fresh.exec(["test", "-e", "/home/agent/.bottle/askpass"]).code == 1


def test_refuses_a_wrong_passphrase_without_hanging(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    with pytest.raises(ProvisionError, match="Is the passphrase right") as caught:
        apply(fresh, item(host_key, make_key("locked", PASSPHRASE)), "not-this-one")
    assert "not-this-one" not in str(caught.value)
    assert sshagent.fingerprints(fresh) == set()
    assert fresh.exec(["pgrep", "-f", "[a]skpass"]).code == 1


def test_asks_before_it_takes_anything_away(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    plain, locked = make_key("plain"), make_key("locked", PASSPHRASE)
    apply(fresh, item(host_key, plain))
    with pytest.raises(DecisionNeededError):
        SshProvisioner().apply(fresh, item(host_key, plain, locked), RecordedSteps(), RecordedStep())
    assert sshagent.fingerprints(fresh) == {fingerprint(plain)}


def test_notices_a_restart_and_gives_the_keys_again(
    bench: Bench, fresh: DockerBottle, make_key: MakeKey, host_key: str
) -> None:
    what = item(host_key, make_key())
    apply(fresh, what)
    bench.restart(fresh)
    with pytest.raises(ProvisionError, match="no ssh-agent answers"):
        SshProvisioner().verify(fresh, what)
    assert apply(fresh, what)["given"] is True


def test_unlinks_a_socket_that_nobody_listens_on(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    what = item(host_key, make_key())
    apply(fresh, what)
    fresh.exec(["pkill", "-9", "-x", "ssh-agent"])
    assert fresh.exec(["test", "-S", SSH_AUTH_SOCK]).code == 0
    assert apply(fresh, what)["agent"] == "started"


def test_notices_keys_that_are_gone(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    key = make_key()
    apply(fresh, item(host_key, key))
    fresh.exec(["ssh-add", "-D"])
    with pytest.raises(ProvisionError, match=f"lacks keys: {key}"):
        SshProvisioner().verify(fresh, item(host_key, key))
    assert apply(fresh, item(host_key, key))["given"] is True


def test_gives_a_rotated_key_and_takes_the_old_one_away(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    key = make_key()
    apply(fresh, item(host_key, key))
    key.unlink()
    make_key()
    apply(fresh, item(host_key, key))
    assert sshagent.fingerprints(fresh) == {fingerprint(key)}


def test_binds_keys_anew_when_a_pinned_host_key_changes(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    key = make_key()
    apply(fresh, item(host_key, key))
    other = " ".join(make_key("other").with_suffix(".pub").read_text().split()[:2])
    with pytest.raises(ProvisionError, match="known_hosts holds something else"):
        SshProvisioner().verify(fresh, item(other, key))
    assert apply(fresh, item(other, key))["given"] is True


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_takes_a_key_in_the_old_format(fresh: DockerBottle, make_key: MakeKey, host_key: str, passphrase: str) -> None:
    key = make_key("old", passphrase, "-t", "ecdsa", "-m", "PEM")
    evidence = apply(fresh, item(host_key, key), *([passphrase] if passphrase else []))
    assert evidence["keys"] == {str(key): fingerprint(key)}


def test_says_when_the_key_is_gone(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    key = make_key()
    what = item(host_key, key)
    key.unlink()
    with pytest.raises(DecisionNeededError, match="private key cannot be read") as caught:
        apply(fresh, what)
    assert caught.value.place == str(key)


def test_uses_its_own_client_where_nc_knows_no_proxy(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    fresh.exec(["sh", "-c", "rm $(readlink -f $(command -v nc))"], user="root")
    apply(fresh, item(host_key, make_key()))
    command = "proxycommand /home/agent/.bottle/ssh-connect 192.0.2.9:8081 %h %p"
    assert command in fresh.exec(["ssh", "-G", "git.example.com"]).text.splitlines()
    fresh.exec(["sh", "-c", "rm $(readlink -f $(command -v python3)) $(command -v python3)"], user="root")
    with pytest.raises(ProvisionError, match="nothing that connects through a proxy"):
        apply(fresh, item(host_key, make_key("second")))


def test_refuses_a_bottle_without_a_relay(
    bench: Bench, network: str, images: dict[str, ImageRef], make_key: MakeKey, host_key: str
) -> None:
    bottle = bench.agent(images["agent"].id, network, BOTTLE_RELAY="")
    with pytest.raises(ProvisionError, match="no relay"):
        apply(bottle, item(host_key, make_key()))


def test_says_what_the_image_lacks(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    fresh.exec(["rm", "/usr/bin/ssh-agent"], user="root")
    with pytest.raises(ProvisionError, match="needs openssh-client"):
        apply(fresh, item(host_key, make_key()))


def test_never_shows_a_key_in_an_error(fresh: DockerBottle, make_key: MakeKey, host_key: str) -> None:
    sshagent.ensure_running(fresh)
    key = make_key().read_bytes()
    broken = key.replace(key.splitlines()[2], b"A" * len(key.splitlines()[2]))
    with pytest.raises(ProvisionError, match="ssh-add refused the key") as caught:
        sshagent.add_key(
            fresh, broken, passphrase=Secret("x"), constraints=[], known_hosts="/dev/null", place="the key"
        )
    assert key.splitlines()[1].decode() not in str(caught.value)
