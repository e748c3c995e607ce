"""What is fetched for our images: pins, mirrors, tokens, CAs; and the build context that it goes into."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.backend import pypi
from bottle_fsm.backend.docker import artefacts
from bottle_fsm.backend.docker.artefacts import fetch_npm, install_python
from bottle_fsm.backend.docker.context import ContextWriter, digest_of, files_below
from bottle_fsm.errors import BackendError, BottleError, StepTimeoutError, TransientError
from bottle_fsm.resources import data_path
from tiny_servers import TinyServer, integrity, tarball, wheel

TARBALL = tarball({"package/bin/tool": b"#!/bin/sh\n", "package/README": b"read"})


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with TinyServer().running() as running:
        running.pages["/npm/tool/-/tool-1.0.0.tgz"] = ("application/gzip", TARBALL)
        yield running


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    path = tmp_path / "npm.json"
    pin = {"name": "tool", "version": "1.0.0", "integrity": integrity(TARBALL)}
    path.write_text(json.dumps({"tool": {"any": pin}}))
    return path


def registry_of(server: TinyServer, **more: str) -> dict[str, str]:
    return {"HOME": "/nonexistent", "NPM_CONFIG_REGISTRY": f"http://{server.address}/npm/", **more}


def test_fetches_a_pinned_tarball_once(server: TinyServer, pins: Path, tmp_path: Path) -> None:
    for _ in range(2):
        found = fetch_npm(pins, tmp_path / "cache", arch="amd64", environ=registry_of(server))
        assert found["tool"].read_bytes() == TARBALL
    assert len(server.asked) == 1


def test_fetches_again_what_was_cut_off(server: TinyServer, pins: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tool-1.0.0.tgz").write_bytes(TARBALL[:50])
    found = fetch_npm(pins, tmp_path / "cache", arch="amd64", environ=registry_of(server))
    assert found["tool"].read_bytes() == TARBALL


def test_refuses_a_tarball_that_is_not_what_was_pinned(server: TinyServer, pins: Path, tmp_path: Path) -> None:
    server.pages["/npm/tool/-/tool-1.0.0.tgz"] = ("application/gzip", b"something else")
    with pytest.raises(BackendError, match=r"tool 1\.0\.0 is not what was pinned"):
        fetch_npm(pins, tmp_path / "cache", arch="amd64", environ=registry_of(server))
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


def test_takes_registry_and_token_from_the_users_npmrc(server: TinyServer, pins: Path, tmp_path: Path) -> None:
    place = f"//{server.address}/npm/"
    (tmp_path / ".npmrc").write_text(f"; a comment\nregistry=http:{place}\n{place}:_authToken=${{NPM_TOKEN}}\n")
    environ = {"HOME": str(tmp_path), "NPM_TOKEN": "made-up-token"}
    fetch_npm(pins, tmp_path / "cache", arch="amd64", environ=environ)
    assert server.asked[0][1]["Authorization"] == "Bearer made-up-token"


def test_goes_through_the_hosts_proxy(server: TinyServer, pins: Path, tmp_path: Path) -> None:
    target = "http://registry.invalid/npm/tool/-/tool-1.0.0.tgz"
    server.pages[target] = ("application/gzip", TARBALL)
    environ = {
        "HOME": "/nonexistent",
        "NPM_CONFIG_REGISTRY": "http://registry.invalid/npm",
        "http_proxy": f"http://{server.address}",
    }
    fetch_npm(pins, tmp_path / "cache", arch="amd64", environ=environ)
    assert [path for path, _ in server.asked] == [target]


@pytest.mark.parametrize("registry", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_says_how_to_go_on_when_the_registry_does_not_answer(registry: str, pins: Path, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"cannot be fetched.*NPM_CONFIG_REGISTRY"):
        fetch_npm(pins, tmp_path, arch="amd64", environ={"HOME": "/nonexistent", "NPM_CONFIG_REGISTRY": registry})


def test_asks_no_other_kind_of_registry(pins: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no http"):
        fetch_npm(pins, tmp_path / "c", arch="amd64", environ={"NPM_CONFIG_REGISTRY": f"file://{tmp_path}"})


def test_names_the_architectures_that_there_are(tmp_path: Path) -> None:
    pins = data_path("images") / "agent" / "npm.json"
    with pytest.raises(BackendError, match=r"no node for s390x.*amd64, arm64"):
        fetch_npm(pins, tmp_path, arch="s390x", environ={})
    with pytest.raises(BackendError, match="no sidecar image for s390x"):
        install_python(tmp_path / "r.txt", tmp_path, arch="s390x", environ={})


def test_trusts_the_bundles_of_the_users_variables(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    with pytest.raises(OSError, match=r"NO_CERTIFICATE_OR_CRL_FOUND|no certificate or crl found"):
        artefacts._tls_context({"NODE_EXTRA_CA_CERTS": str(broken)})
    assert artefacts._tls_context({"SSL_CERT_FILE": str(tmp_path / "gone")}).verify_mode


@pytest.fixture
def index(server: TinyServer, tmp_path: Path) -> Path:
    """A PyPI of one package, and requirements that pin it."""
    content = wheel("tinything", "1.0")
    digest = hashlib.sha256(content).hexdigest()
    name = "tinything-1.0-py3-none-any.whl"
    page = f'<!DOCTYPE html><html><body><a href="/files/{name}#sha256={digest}">{name}</a></body></html>'
    server.pages["/simple/tinything/"] = ("text/html", page.encode())
    server.pages[f"/files/{name}"] = ("application/octet-stream", content)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"tinything==1.0 --hash=sha256:{digest}\n")
    return requirements


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "uv"), **more}


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_installs_for_the_engines_architecture_with_pips_index(
    server: TinyServer, index: Path, tmp_path: Path, arch: str
) -> None:
    environ = settings(tmp_path, PIP_INDEX_URL=f"http://{server.address}/simple")
    install_python(index, tmp_path / "site", arch=arch, environ=environ)
    assert (tmp_path / "site" / "tinything.py").read_text() == "version = '1.0'\n"


def test_reads_pips_configuration_file(server: TinyServer, index: Path, tmp_path: Path) -> None:
    config = tmp_path / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"[global]\nindex-url = http://{server.address}/simple\nextra-index-url =\n  http://127.0.0.1:1/x\n"
    )
    assert pypi.uv_environment(settings(tmp_path))["UV_INDEX"] == "http://127.0.0.1:1/x"
    config.write_text(f"[global]\nindex-url = http://{server.address}/simple\n")
    environ = settings(tmp_path, PIP_CONFIG_FILE="/dev/null")
    install_python(index, tmp_path / "site", arch="amd64", environ=environ)
    assert (tmp_path / "site" / "tinything.py").exists()


def test_keeps_uvs_own_settings_before_pips(tmp_path: Path) -> None:
    environ = settings(
        tmp_path, PIP_INDEX_URL="http://pip", UV_DEFAULT_INDEX="http://uv", PIP_CERT="/pip.pem", VIRTUAL_ENV="/v"
    )
    handed = pypi.uv_environment(environ)
    assert handed["UV_DEFAULT_INDEX"] == "http://uv"
    assert handed["SSL_CERT_FILE"] == "/pip.pem"
    assert "VIRTUAL_ENV" not in handed


def test_names_a_broken_pip_configuration(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("no section\n")
    with pytest.raises(BackendError, match="pip's settings cannot be read"):
        pypi.uv_environment(settings(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "pip.conf")))


def test_refuses_a_package_with_another_hash(server: TinyServer, index: Path, tmp_path: Path) -> None:
    index.write_text("tinything==1.0 --hash=sha256:" + "0" * 64 + "\n")
    environ = settings(tmp_path, PIP_INDEX_URL=f"http://{server.address}/simple")
    with pytest.raises(BackendError, match=r"cannot be fetched.*[Hh]ash"):
        install_python(index, tmp_path / "site", arch="amd64", environ=environ)
    assert not (tmp_path / "site" / "tinything.py").exists()


def test_gives_up_on_a_fetch_that_does_not_end(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "_TIMEOUT", 0.001)
    with pytest.raises(StepTimeoutError, match="uv did not end"):
        install_python(index, tmp_path / "site", arch="amd64", environ=settings(tmp_path))


def test_says_when_uv_is_missing(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("uv.find_uv_bin", nowhere)
    with pytest.raises(BackendError, match="pip install uv"):
        install_python(index, tmp_path / "site", arch="amd64", environ=settings(tmp_path))


def names_in(context: io.BytesIO) -> dict[str, int]:
    context.seek(0)
    with tarfile.open(fileobj=context) as tar:
        return {member.name: member.mode for member in tar}


def test_unpacks_an_npm_tarball_into_the_context(tmp_path: Path) -> None:
    (tmp_path / "t.tgz").write_bytes(TARBALL)
    target = io.BytesIO()
    writer = ContextWriter(target)
    writer.add_npm("node", tmp_path / "t.tgz")
    writer.close()
    assert names_in(target) == {"node/bin/tool": 0o755, "node/README": 0o755}


@pytest.mark.parametrize("name", ["package/../../etc/passwd", "/package/x"])
def test_refuses_a_tarball_that_leads_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.tgz").write_bytes(tarball({name: b"x"}))
    writer = ContextWriter(io.BytesIO())
    with pytest.raises(BackendError, match="leads outside"):
        writer.add_npm("node", tmp_path / "t.tgz")


def test_names_a_file_that_is_no_tarball(tmp_path: Path) -> None:
    (tmp_path / "t.tgz").write_bytes(b"no tar")
    with pytest.raises(BackendError, match="not a tarball"):
        ContextWriter(io.BytesIO()).add_npm("node", tmp_path / "t.tgz")


def test_writes_the_same_bytes_for_the_same_tree(tmp_path: Path) -> None:
    (tmp_path / "tree" / "__pycache__").mkdir(parents=True)
    (tmp_path / "tree" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (tmp_path / "tree" / "bin").mkdir()
    (tmp_path / "tree" / "bin" / "tool").write_text("left out")
    (tmp_path / "tree" / "a.py").write_text("a = 1")
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    written = []
    for _ in range(2):
        target = io.BytesIO()
        writer = ContextWriter(target)
        writer.add_tree("site", tmp_path / "tree", without=("bin",))
        writer.close()
        written.append(target.getvalue())
        (tmp_path / "tree" / "a.py").touch()
    assert written[0] == written[1]
    assert names_in(target) == {"site/a.py": 0o644}


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=3)), st.text(max_size=3))
def test_digests_equal_content_equally_and_other_content_otherwise(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], fact: str
) -> None:
    def written(name: str) -> dict[str, Path]:
        directory = tmp_path_factory.mktemp(name)
        for file, content in files.items():
            (directory / file).write_bytes(content)
        return dict(files_below(directory))

    one, other = written("one"), written("other")
    assert digest_of(one, fact) == digest_of(other, fact)
    assert digest_of(one, fact) != digest_of(one, fact, "more")
    for path in other.values():
        path.write_bytes(path.read_bytes() + b"x")
    assert (digest_of(one, fact) == digest_of(other, fact)) is (not files)


def test_digests_a_files_executable_bit(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o644)
    before = digest_of({"a": tmp_path / "a"})
    (tmp_path / "a").chmod(0o755)
    assert digest_of({"a": tmp_path / "a"}) != before


def test_finds_data_files_in_a_checkout_and_in_a_wheel(tmp_path: Path) -> None:
    package = tmp_path / "bottle_fsm"
    (tmp_path / "images").mkdir()
    package.mkdir()
    assert data_path("images", package=package) == tmp_path / "images"
    (package / "_data" / "images").mkdir(parents=True)
    assert data_path("images", package=package) == package / "_data" / "images"
    with pytest.raises(BottleError, match=r"'nothing' is missing.*install bottle-fsm again"):
        data_path("nothing", package=package)
