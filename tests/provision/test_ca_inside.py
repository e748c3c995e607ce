from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.errors import ProvisionError
from bottle_fsm.places import CA_BUNDLE_PATH, CA_CERT_PATH
from bottle_fsm.provision import ca
from bottle_fsm.provision.trust_scripts import ACT, DONE
from provision_bench import Bench, RecordedSteps

pytestmark = pytest.mark.engine

CAPATH = ["openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", "/etc/ssl/certs"]
CAFILE = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", CA_BUNDLE_PATH]


def authority(where: Path, name: str) -> bytes:
    where.mkdir()
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-keyout", "key", "-out", "crt", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run(argv, cwd=where, check=True, capture_output=True)
    return (where / "crt").read_bytes()


@pytest.fixture
def certificate(tmp_path: Path) -> bytes:
    return authority(tmp_path / "one", "first CA")


@pytest.fixture
def whole(bench: Bench, network: str, images: dict[str, ImageRef]) -> DockerBottle:
    """An agent with all public roots."""
    return bench.agent(images["agent"].id, network)


@pytest.fixture
def fresh(bench: Bench, whole: DockerBottle) -> DockerBottle:
    bench.quick_store(whole)
    return whole


def verified(bottle: DockerBottle, certificate: bytes) -> tuple[bool, bool]:
    """Tell whether the store finds a certificate by directory of hashes, and in the bundle."""
    bottle.copy_in(certificate, "/home/agent/probe.pem")
    return (
        bottle.exec([*CAPATH, "/home/agent/probe.pem"]).code == 0,
        bottle.exec([*CAFILE, "/home/agent/probe.pem"]).code == 0,
    )


def test_puts_the_certificate_into_every_store(
    fresh: DockerBottle, certificate: bytes, steps: RecordedSteps, tmp_path: Path
) -> None:
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=certificate, capture_output=True, check=True
    ).stdout.decode()
    printed = text.strip().partition("=")[2].replace(":", "").lower()

    assert ca.trust(fresh, certificate, steps) == ca.fingerprint(certificate) == printed
    assert verified(fresh, certificate) == (True, True)
    assert fresh.read_file(CA_CERT_PATH).strip() == certificate.strip()
    assert fresh.exec(["stat", "-c", "%a %U", CA_CERT_PATH]).text == "644 root"
    assert steps.done[0][1]["ca_sha256"] == printed
    assert steps.done[0][1]["trust_store"]["capath"] == "ok"


def test_writes_what_children_with_a_wiped_environment_read(fresh: DockerBottle, certificate: bytes) -> None:
    ca.trust(fresh, certificate, RecordedSteps())
    wiped = ["env", "-i", "HOME=/home/agent", "PATH=/usr/local/bin:/usr/bin:/bin"]
    shell = "set -a; . /etc/environment; echo $https_proxy $NODE_EXTRA_CA_CERTS"
    assert fresh.exec([*wiped, "sh", "-c", shell]).text == f"http://192.0.2.9:8080 {CA_CERT_PATH}"
    login = fresh.exec([*wiped, "bash", "-lc", "echo $SSL_CERT_FILE; printenv NO_PROXY"]).text
    assert login.splitlines() == [CA_BUNDLE_PATH, "localhost,127.0.0.1,::1"]
    assert fresh.exec([*wiped, "git", "config", "http.sslCAInfo"]).text == CA_BUNDLE_PATH
    assert fresh.exec([*wiped, "git", "config", "http.proxy"]).text == "http://192.0.2.9:8080"
    assert fresh.exec([*wiped, "npm", "config", "get", "cafile"]).text == CA_BUNDLE_PATH


def test_keeps_foreign_lines_of_the_files_it_writes_to(fresh: DockerBottle, certificate: bytes, tmp_path: Path) -> None:
    fresh.exec(["sh", "-c", "echo KEEP=me > /etc/environment"], user="root")
    fresh.exec(["sh", "-c", "echo fund=false > ~/.npmrc"])
    ca.trust(fresh, certificate, RecordedSteps())
    ca.trust(fresh, authority(tmp_path / "two", "second CA"), RecordedSteps())
    lines = fresh.read_file("/etc/environment").decode().splitlines()
    assert lines[0] == "KEEP=me"
    assert sum(line.startswith("HTTPS_PROXY=") for line in lines) == 1
    npm = fresh.read_file("/home/agent/.npmrc").decode().splitlines()
    assert npm[0] == "fund=false"
    assert sum(line.startswith("cafile=") for line in npm) == 1


def test_runs_nothing_when_the_certificate_is_trusted(fresh: DockerBottle, certificate: bytes) -> None:
    ca.trust(fresh, certificate, RecordedSteps())
    before = fresh.exec(["sh", "-c", "stat -c '%i %Z' /etc/ssl/certs/* /etc/environment /etc/gitconfig"]).text
    steps = RecordedSteps()
    ca.trust(fresh, certificate, steps)
    ca.verify(fresh, certificate)
    assert steps.done[0][1]["trust_store"]["changed"] == []
    assert fresh.exec(["sh", "-c", "stat -c '%i %Z' /etc/ssl/certs/* /etc/environment /etc/gitconfig"]).text == before


def test_replaces_the_ca_of_an_earlier_interceptor(fresh: DockerBottle, certificate: bytes, tmp_path: Path) -> None:
    ca.trust(fresh, certificate, RecordedSteps())
    other = authority(tmp_path / "two", "second CA")
    with pytest.raises(ProvisionError, match="is not this certificate"):
        ca.verify(fresh, other)
    ca.trust(fresh, other, RecordedSteps())
    assert verified(fresh, other) == (True, True)
    assert verified(fresh, certificate) == (False, False)


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.5])
def test_ends_well_after_an_update_that_was_killed_half_way(
    whole: DockerBottle, certificate: bytes, delay: float, tmp_path: Path
) -> None:
    old = authority(tmp_path / "old", "an earlier CA")
    # both shells are killed; what they left running goes on, as after the death of the exec that started them
    kill = f'sh -c "$0" bottle "$@" >/dev/null 2>&1 & sleep {delay}; kill -9 $!; pkill -9 -o update-ca-cert; exit 0'
    argv = ["bash", "-c", kill, ACT, old.decode(), "", "never"]
    assert whole.exec(argv, user="root").code == 0
    steps = RecordedSteps()
    ca.trust(whole, certificate, steps)
    assert any("did not finish" in m for m in steps.done[0][1]["trust_store"]["changed"])
    assert verified(whole, certificate) == (True, True)
    assert verified(whole, old) == (False, False)
    # the public roots are all there again, in both forms
    assert (
        whole.exec(["sh", "-c", "ls /etc/ssl/certs/*.0 | wc -l"]).text
        == whole.exec(["sh", "-c", f"grep -c BEGIN {CA_BUNDLE_PATH}"]).text
    )


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("rm /etc/ssl/certs/claude-bottle-mitm.pem", "directory of hashed certificates"),
        (f"sed -i 1,40d {CA_BUNDLE_PATH}; : > {CA_BUNDLE_PATH}", "does not hold it"),
        (f"rm {DONE}", "did not finish"),
        (f"rm {CA_CERT_PATH}", "is not this certificate"),
    ],
)
def test_finds_and_mends_damage(fresh: DockerBottle, certificate: bytes, damage: str, named: str) -> None:
    ca.trust(fresh, certificate, RecordedSteps())
    fresh.exec(["sh", "-c", damage], user="root")
    with pytest.raises(ProvisionError, match=named):
        ca.verify(fresh, certificate)
    ca.trust(fresh, certificate, RecordedSteps())
    ca.verify(fresh, certificate)


def test_says_what_an_image_without_a_store_needs(fresh: DockerBottle, certificate: bytes) -> None:
    fresh.exec(["rm", "/usr/sbin/update-ca-certificates"], user="root")
    with pytest.raises(ProvisionError, match="needs the package ca-certificates"):
        ca.trust(fresh, certificate, RecordedSteps())


def test_does_not_believe_a_tool_that_did_nothing(fresh: DockerBottle, certificate: bytes) -> None:
    fresh.copy_in(b"#!/bin/sh\nexit 0\n", "/usr/sbin/update-ca-certificates", mode=0o755, owner="root")
    with pytest.raises(ProvisionError, match=r"after the update: .* does not hold it"):
        ca.trust(fresh, certificate, RecordedSteps())


def test_says_what_an_image_without_flock_needs(fresh: DockerBottle, certificate: bytes) -> None:
    fresh.exec(["rm", "/usr/bin/flock"], user="root")
    with pytest.raises(ProvisionError, match="flock is missing"):
        ca.trust(fresh, certificate, RecordedSteps())


def test_knows_the_layout_of_red_hat(fresh: DockerBottle, certificate: bytes) -> None:
    # a stand-in for the one tool; it does what the real one does with the anchors
    tool = """#!/bin/sh
mkdir -p /etc/pki/ca-trust/extracted/pem
cat /etc/pki/ca-trust/source/anchors/*.crt > /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
"""
    prepare = f"""rm /usr/sbin/update-ca-certificates {CA_BUNDLE_PATH}; mkdir -p /etc/pki/ca-trust/source/anchors
printf '%s' "$1" > /usr/bin/update-ca-trust; chmod 755 /usr/bin/update-ca-trust"""
    assert fresh.exec(["sh", "-c", prepare, "sh", tool], user="root").code == 0
    steps = RecordedSteps()
    ca.trust(fresh, certificate, steps)
    ca.verify(fresh, certificate)
    assert steps.done[0][1]["trust_store"]["family"] == "rhel"
    assert verified(fresh, certificate)[1]


def test_gives_a_jdk_the_certificate(fresh: DockerBottle, certificate: bytes, tmp_path: Path) -> None:
    # a stand-in that knows one name: a JDK is no part of the image
    tool = """#!/bin/sh
while case $1 in -J*) ;; *) false ;; esac; do shift; done
echo "$@" >> /var/keytool.log
case $1 in -importcert) set -C; : > /var/alias ;; -delete) rm /var/alias ;; esac 2>/dev/null
"""
    imported = (
        f"-importcert -noprompt -file {CA_CERT_PATH} -cacerts -storepass changeit -alias claude-bottle-mitm",
        "-delete -cacerts -storepass changeit -alias claude-bottle-mitm",
    )
    fresh.copy_in(tool.encode(), "/usr/bin/keytool", mode=0o755, owner="root")
    ca.trust(fresh, certificate, RecordedSteps())
    assert fresh.read_file("/var/keytool.log").decode().splitlines() == [imported[0]]
    ca.trust(fresh, authority(tmp_path / "two", "second CA"), RecordedSteps())
    again = fresh.read_file("/var/keytool.log").decode().splitlines()[1:]
    assert again == [imported[0], imported[1], imported[0]], "one of an earlier CA has to go first"


def test_waits_for_another_that_works_on_the_store(fresh: DockerBottle, certificate: bytes) -> None:
    hold = "flock /usr/local/share/ca-certificates sh -c 'sleep 2; touch /var/released' >/dev/null 2>&1 & sleep 0.2"
    fresh.exec(["bash", "-c", hold], user="root")
    ca.trust(fresh, certificate, RecordedSteps())
    assert fresh.exec(["test", CA_CERT_PATH, "-nt", "/var/released"]).code == 0


@pytest.mark.parametrize("text", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"])
def test_refuses_what_is_not_one_certificate(fresh: DockerBottle, text: bytes) -> None:
    with pytest.raises(ProvisionError, match=r"expected one PEM|not a PEM"):
        ca.trust(fresh, text, RecordedSteps())


def test_refuses_two_certificates(certificate: bytes) -> None:
    with pytest.raises(ProvisionError, match="found 2"):
        ca.fingerprint(certificate + certificate)
