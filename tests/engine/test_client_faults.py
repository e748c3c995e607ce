"""What an engine's faults become: a fault server on a Unix socket, closed ports, forbidden sockets."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import InvalidVersion

from bottle_fsm.backend.docker.client import Engine, connect
from bottle_fsm.backend.docker.errors import ConflictError, ObjectGoneError, SubnetTakenError, of_stream, translated
from bottle_fsm.errors import (
    BackendError,
    EngineUnavailableError,
    ImageMissingError,
    NameTakenError,
    StepTimeoutError,
    TransientError,
)
from faulty_engine import CLOSE, GARBAGE, HANG, VERSION, FaultyEngine, answer

NOBODY = 65534


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultyEngine]:
    with FaultyEngine(tmp_path / "e.sock").running() as engine:
        yield engine


@pytest.fixture
def connected(faulty: FaultyEngine) -> Iterator[Engine]:
    engine = connect({"DOCKER_HOST": faulty.url})
    yield engine
    engine.close()


def info_with(engine: Engine, *, timeout: float = 5.0) -> None:
    with engine.guarded("ask info", timeout=timeout) as api:
        api.info()


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (500, "something broke", TransientError),
        (503, "starting", TransientError),
        (429, "slow down", TransientError),
        (400, "invalid mount config", BackendError),
        (403, "Pool overlaps with other one on this address space", SubnetTakenError),
        (404, "No such container: abc", ObjectGoneError),
        (404, "No such image: abc:latest", ImageMissingError),
        (409, 'Conflict. The container name "/a" is already in use by container "b"', NameTakenError),
        (409, "network with name a already exists", NameTakenError),
        (409, "removal of container abc is already in progress", ConflictError),
    ],
)
def test_turns_an_answer_into_our_error(
    faulty: FaultyEngine, connected: Engine, status: int, words: str, expected: type[BackendError]
) -> None:
    faulty.answers["/info"] = answer(status, {"message": words})
    with pytest.raises(BackendError) as caught:
        info_with(connected)
    assert type(caught.value) is expected
    assert words in caught.value.problem
    assert caught.value.place == "ask info"


def test_says_that_a_taken_name_is_not_touched(faulty: FaultyEngine, connected: Engine) -> None:
    faulty.answers["/info"] = answer(409, {"message": "network with name a already exists"})
    with pytest.raises(NameTakenError, match="not touched"):
        info_with(connected)


def test_gives_up_on_an_engine_that_hangs(faulty: FaultyEngine, connected: Engine) -> None:
    faulty.answers["/info"] = HANG
    begun = time.monotonic()
    with pytest.raises(StepTimeoutError, match="did not answer in time"):
        info_with(connected, timeout=0.3)
    assert time.monotonic() - begun < 3


def test_calls_a_lost_reply_transient(faulty: FaultyEngine, connected: Engine) -> None:
    faulty.answers["/info"] = CLOSE
    with pytest.raises(TransientError, match="no usable answer"):
        info_with(connected)


def test_calls_garbage_transient(faulty: FaultyEngine, connected: Engine) -> None:
    faulty.answers["/info"] = GARBAGE
    with pytest.raises(TransientError, match="no usable answer"):
        info_with(connected)


def test_calls_a_broken_stream_transient(faulty: FaultyEngine, connected: Engine) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    faulty.answers["/images/create"] = head + b'10\r\n{"status": "x"}'
    with pytest.raises(TransientError), connected.guarded("pull x") as api:
        list(api.pull("x", tag="1", stream=True, decode=True))


def test_lets_our_own_errors_pass(connected: Engine) -> None:
    ours = NameTakenError("a", place="b")
    with pytest.raises(NameTakenError) as caught, connected.guarded("c"):
        raise ours
    assert caught.value is ours


def test_hides_no_programming_error(connected: Engine) -> None:
    with pytest.raises(KeyError), connected.guarded("c"):
        raise KeyError("a bug")


def test_says_when_the_engine_is_too_old_for_a_call(connected: Engine) -> None:
    with pytest.raises(BackendError, match="newer engine"), translated("c", url="u"):
        raise InvalidVersion("not supported in API version < 1.45")


@pytest.mark.parametrize("reply", [GARBAGE, CLOSE, answer(500, {"message": "no"}), answer(200, {}), answer(200, [])])
def test_takes_nothing_for_an_engine_that_does_not_answer_like_one(faulty: FaultyEngine, reply: bytes) -> None:
    faulty.answers["/version"] = reply
    with pytest.raises(EngineUnavailableError, match="DOCKER_HOST"):
        connect({"DOCKER_HOST": faulty.url})


def test_times_out_on_a_hanging_engine_at_connect(faulty: FaultyEngine) -> None:
    faulty.answers["/version"] = HANG
    with pytest.raises(StepTimeoutError):
        connect({"DOCKER_HOST": faulty.url}, timeout=0.3)


def test_refuses_an_engine_that_is_too_old(faulty: FaultyEngine) -> None:
    faulty.answers["/version"] = answer(200, {**VERSION, "Version": "19.03", "ApiVersion": "1.40"})
    with pytest.raises(EngineUnavailableError, match=r"19\.03 \(API 1\.40\).*20\.10 \(API 1\.41\) or newer"):
        connect({"DOCKER_HOST": faulty.url})


def test_uses_the_api_version_of_a_newer_engine(faulty: FaultyEngine) -> None:
    faulty.answers["/version"] = answer(200, {**VERSION, "Version": "29.0", "ApiVersion": "1.52"})
    faulty.answers["/info"] = answer(200, {"ID": "x"})
    engine = connect({"DOCKER_HOST": faulty.url})
    info_with(engine)
    engine.close()
    assert any("/v1.52/info" in line for line in faulty.asked)


@pytest.mark.parametrize(
    "host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "tcp://no-such-host.invalid:2375"]
)
def test_says_how_to_go_on_when_no_engine_answers(host: str) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no engine answers.*make engine.*DOCKER_HOST"):
        connect({"DOCKER_HOST": host})


def test_takes_an_unreachable_host_for_an_engine_that_does_not_answer() -> None:
    with pytest.raises(EngineUnavailableError, match="No route to host"), translated("c", url="tcp://far:2376"):
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


def test_says_how_to_go_on_when_a_socket_is_dead(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "e.sock"))
    with pytest.raises(EngineUnavailableError, match="Connection refused"):
        connect({"DOCKER_HOST": f"unix://{tmp_path}/e.sock"})


def test_names_the_group_when_the_socket_is_forbidden(faulty: FaultyEngine, tmp_path: Path) -> None:
    (tmp_path / "e.sock").chmod(0)
    connect_as_nobody = os.geteuid() == 0
    if connect_as_nobody:
        connect({"DOCKER_HOST": faulty.url}).close()  # imports what nobody may not read
        os.seteuid(NOBODY)
    try:
        with pytest.raises(EngineUnavailableError, match=r"permission denied.*group"):
            connect({"DOCKER_HOST": faulty.url})
    finally:
        if connect_as_nobody:
            os.seteuid(0)


def test_names_the_certificates_when_tls_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def speak_no_tls() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(1000)

        thread = threading.Thread(target=speak_no_tls)
        thread.start()
        environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
        with pytest.raises(EngineUnavailableError, match=r"TLS.*DOCKER_CERT_PATH"):
            connect({"DOCKER_HOST": f"tcp://127.0.0.1:{plain.getsockname()[1]}", **environ})
        thread.join()


def test_offers_the_client_certificate_and_verifies_by_the_given_authority(tmp_path: Path) -> None:
    roots = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    (tmp_path / "ca.pem").write_bytes(Path(roots).read_bytes())
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no certificate")
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_HOST": "tcp://127.0.0.1:1"}
    with pytest.raises(EngineUnavailableError):
        connect(environ)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("manifest for a:b not found: manifest unknown", ImageMissingError),
        ("pull access denied for x, repository does not exist or may require login", ImageMissingError),
        ("Get https://registry/v2/: dial tcp: lookup registry: no such host", TransientError),
        ("toomanyrequests: slow down", TransientError),
        ("The command '/bin/sh -c false' returned a non-zero code: 1", BackendError),
    ],
)
def test_tells_the_errors_of_a_stream_apart(message: str, expected: type[BackendError]) -> None:
    error = of_stream(message, step="pull x")
    assert type(error) is expected
    assert message in str(error)
