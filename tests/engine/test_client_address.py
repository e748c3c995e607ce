"""Which engine the user's settings name: DOCKER_HOST, contexts, certificates; and which engine is the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.backend.docker.client import connect
from bottle_fsm.backend.docker.endpoint import DEFAULT_URL, Address, Endpoint, resolve
from bottle_fsm.errors import DecisionNeededError, EngineUnavailableError
from faulty_engine import FaultyEngine, answer

TEXT = st.text(max_size=12)
ENDPOINTS = st.builds(
    Endpoint,
    url=TEXT,
    engine_id=TEXT,
    name=TEXT,
    root_dir=TEXT,
    version=TEXT,
    api_version=TEXT,
    tls_dir=TEXT,
    tls_verify=st.booleans(),
)
RECORDED = Endpoint("unix:///a", engine_id="ID", name="host", root_dir="/data", version="20.10", api_version="1.41")


def write_context(config: Path, name: str, docker: dict[str, Any], *, tls: bool = False) -> Path:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}))
    certificates = config / "contexts" / "tls" / key / "docker"
    if tls:
        certificates.mkdir(parents=True)
    return certificates


def test_takes_the_default_socket_without_settings(tmp_path: Path) -> None:
    assert resolve({"HOME": str(tmp_path)}) == Address(DEFAULT_URL)


def test_takes_docker_host_before_any_context(tmp_path: Path) -> None:
    write_context(tmp_path, "far", {"Host": "tcp://far:2376"})
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far", "DOCKER_HOST": "ssh://me@near"}
    assert resolve(environ) == Address("ssh://me@near")


def test_takes_the_named_context_before_the_current_one(tmp_path: Path) -> None:
    write_context(tmp_path, "far", {"Host": "tcp://far:2376"})
    write_context(tmp_path, "near", {"Host": "unix:///near.sock"})
    (tmp_path / "config.json").write_text('{"currentContext": "near"}')
    assert resolve({"DOCKER_CONFIG": str(tmp_path)}).url == "unix:///near.sock"
    assert resolve({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far"}).url == "tcp://far:2376"
    assert resolve({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "default"}).url == DEFAULT_URL


def test_reads_a_contexts_certificates(tmp_path: Path) -> None:
    config = tmp_path / ".docker"
    certificates = write_context(config, "far", {"Host": "tcp://far:2376", "SkipTLSVerify": True}, tls=True)
    found = resolve({"HOME": str(tmp_path), "DOCKER_CONTEXT": "far"})
    assert found == Address("tcp://far:2376", tls_dir=str(certificates), tls_verify=False)


def test_names_a_context_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"'gone' does not exist.*docker context ls"):
        resolve({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "gone"})


def test_names_a_context_without_an_engine(tmp_path: Path) -> None:
    write_context(tmp_path, "odd", {})
    (tmp_path / "contexts" / "meta" / hashlib.sha256(b"odd").hexdigest() / "meta.json").write_text('{"Endpoints": {}}')
    with pytest.raises(EngineUnavailableError, match="names no engine"):
        resolve({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "odd"})


@pytest.mark.parametrize("content", ["{", "\x00", '{"currentContext": '])
def test_refuses_a_broken_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EngineUnavailableError, match=r"config\.json.*cannot be read"):
        resolve({"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("content", ["[]", "{}", '{"currentContext": 7}'])
def test_takes_the_default_where_the_configuration_names_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert resolve({"DOCKER_CONFIG": str(tmp_path)}).url == DEFAULT_URL


@pytest.mark.parametrize(
    ("settings", "tls_dir", "verify"),
    [
        ({}, "", True),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, "/certs", True),
        ({"DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"}, "/certs", False),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": "/conf"}, "/conf", True),
    ],
)
def test_reads_the_tls_variables(settings: dict[str, str], tls_dir: str, *, verify: bool) -> None:
    assert resolve({"DOCKER_HOST": "tcp://h:1", **settings}) == Address("tcp://h:1", tls_dir, verify)


@given(ENDPOINTS)
def test_comes_back_from_json_as_it_was(endpoint: Endpoint) -> None:
    written = json.loads(json.dumps(endpoint.to_json()))
    assert Endpoint.from_json({**written, "unknown": 1}) == endpoint
    assert endpoint.address == Address(endpoint.url, endpoint.tls_dir, endpoint.tls_verify)


@given(ENDPOINTS, ENDPOINTS)
def test_is_the_same_in_both_directions_and_to_itself(one: Endpoint, other: Endpoint) -> None:
    assert one.same_as(one)
    assert one.same_as(other) == other.same_as(one)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"url": "ssh://elsewhere", "version": "28", "name": "renamed"}, True),
        ({"engine_id": "other"}, False),
        ({"root_dir": "/other"}, False),
        ({"engine_id": ""}, False),
    ],
)
def test_tells_engines_apart_by_id_and_data_root(change: dict[str, Any], *, same: bool) -> None:
    assert RECORDED.same_as(replace(RECORDED, **change)) is same


def test_tells_engines_without_id_apart_by_name() -> None:
    nameless = replace(RECORDED, engine_id="")
    assert nameless.same_as(replace(nameless, url="x"))
    assert not nameless.same_as(replace(nameless, name="other"))


def test_goes_to_the_recorded_engine_whatever_docker_host_says_now(tmp_path: Path) -> None:
    with FaultyEngine(tmp_path / "e.sock").running() as faulty:
        faulty.answers["/info"] = answer(200, {"ID": "ID", "Name": "host", "DockerRootDir": "/data"})
        engine = connect({"DOCKER_HOST": "unix:///nowhere"}, endpoint=replace(RECORDED, url=faulty.url))
        assert engine.endpoint().engine_id == "ID"
        engine.close()


def test_needs_a_decision_when_another_engine_answers_at_the_recorded_address(tmp_path: Path) -> None:
    with FaultyEngine(tmp_path / "e.sock").running() as faulty:
        faulty.answers["/info"] = answer(200, {"ID": "ANOTHER", "Name": "host", "DockerRootDir": "/data"})
        with pytest.raises(DecisionNeededError, match="another engine answers") as caught:
            connect({}, endpoint=replace(RECORDED, url=faulty.url))
    assert caught.value.exit_code == 4


def test_records_no_id_that_differs_between_two_calls(tmp_path: Path) -> None:
    with FaultyEngine(tmp_path / "e.sock").running() as faulty:
        engine = connect({"DOCKER_HOST": faulty.url})
        ids = iter(["first", "second"])

        class Changing(dict[str, bytes]):
            def get(self, key: str, default: Any = None) -> Any:
                if key == "/info":
                    return answer(200, {"ID": next(ids), "Name": "pod", "DockerRootDir": "/r"})
                return super().get(key, default)

        faulty.answers = Changing()
        endpoint = engine.endpoint()
        engine.close()
    assert (endpoint.engine_id, endpoint.name, endpoint.root_dir) == ("", "pod", "/r")


def test_imports_docker_only_when_an_engine_is_asked() -> None:
    code = (
        "import sys, bottle_fsm.backend.docker.images; sys.exit('docker' in sys.modules or 'requests' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_refuses_an_address_that_is_none_and_shows_no_part_of_it() -> None:
    with pytest.raises(EngineUnavailableError, match="DOCKER_HOST is no address") as caught:
        resolve({"DOCKER_HOST": "tcp://me:hush@[x"})
    assert "hush" not in str(caught.value)


def test_refuses_a_password_in_the_address_for_it_would_be_recorded() -> None:
    with pytest.raises(EngineUnavailableError, match="holds a password") as caught:
        resolve({"DOCKER_HOST": "tcp://me:hush@engine:2376"})
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    assert resolve({"DOCKER_HOST": "ssh://me@engine"}).url == "ssh://me@engine"
