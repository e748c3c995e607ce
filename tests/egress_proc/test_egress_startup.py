"""How the sidecars start, refuse to start, and stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from bottle_fsm.egress import files
from bottle_fsm.egress.healthcheck import PATIENCE
from egress_proc.egress_sidecars import (
    GUARD_PORT,
    HEALTH_PORT,
    PROXY_TOKEN,
    SCAN_PORT,
    SCAN_TOKEN,
    Stack,
    placed,
    python_argv,
    run_to_end,
    start,
    wait_for,
    write_sealed,
)


def guard_content(stack: Stack) -> dict[str, bytes]:
    return files.guard_files(
        "builtin", stack.policy, listen=stack.guard_host, scan_token=SCAN_TOKEN, proxy_token=PROXY_TOKEN
    )


def interceptor_content(stack: Stack) -> dict[str, bytes]:
    return files.interceptor_files(stack.policy, listen=stack.host, guard=stack.guard_host)


@pytest.mark.parametrize("sidecar", ["guard", "interceptor"])
@pytest.mark.parametrize("damage", ["a policy cut in two", "no manifest"])
def test_does_not_start_with_damaged_files_and_says_so(fresh: Stack, tmp_path: Path, sidecar: str, damage: str) -> None:
    content = guard_content(fresh) if sidecar == "guard" else interceptor_content(fresh)
    if damage == "a policy cut in two":
        content[files.POLICY] = content[files.POLICY][: len(content[files.POLICY]) // 2]
    write_sealed(placed(content, tmp_path, fresh.host), tmp_path)
    if damage == "no manifest":
        (tmp_path / "etc" / "MANIFEST.json").unlink()
    done = run_to_end(f"bottle_fsm.egress.{sidecar}", "--config", str(tmp_path / f"etc/{sidecar}.json"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{sidecar}: ")
    assert "Traceback" not in done.stderr


def test_interceptor_does_not_start_when_its_port_is_taken(fresh: Stack, tmp_path: Path) -> None:
    write_sealed(placed(interceptor_content(fresh), tmp_path, fresh.host), tmp_path)
    with socket.create_server((fresh.host, 8080)):
        done = run_to_end("bottle_fsm.egress.interceptor", "--config", str(tmp_path / "etc/interceptor.json"))
    assert done.returncode == 1


def test_guard_does_not_start_when_its_port_is_taken(fresh: Stack, tmp_path: Path) -> None:
    write_sealed(placed(guard_content(fresh), tmp_path, fresh.host), tmp_path)
    with socket.create_server((fresh.guard_host, SCAN_PORT)):
        done = run_to_end("bottle_fsm.egress.guard", "--config", str(tmp_path / "etc/guard.json"))
    assert (done.returncode, "guard: " in done.stderr) == (1, True)


def test_guard_ends_with_zero_on_sigterm_even_with_an_open_tunnel(fresh: Stack) -> None:
    guard = fresh.start_guard()
    sock = socket.create_connection((fresh.guard_host, GUARD_PORT), timeout=5)
    sock.sendall(
        f"CONNECT git.test:22022 HTTP/1.1\r\nProxy-Authorization: Bearer {PROXY_TOKEN.reveal()}\r\n\r\n".encode()
    )
    assert sock.recv(100).startswith(b"HTTP/1.1 200")
    assert guard.stop(signal.SIGTERM) == 0
    sock.close()
    assert [line["event"] for line in guard.lines()][-1] == "shutdown" or guard.lines("shutdown")


def test_keeps_the_ca_key_to_itself(stack: Stack) -> None:
    confdir = stack.inner / "state" / "ca"
    key = confdir / "mitmproxy-ca.pem"
    assert b"PRIVATE KEY" in key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(confdir.stat().st_mode) == 0o700
    holders = [path for path in stack.inner.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert holders == [key]
    assert not list(confdir.glob("*.p12"))
    assert stat.S_IMODE(stack.ca.stat().st_mode) == 0o644
    assert stack.ca.read_bytes().count(b"-----BEGIN ") == 1


def test_health_tells_the_fingerprint_of_the_published_certificate(stack: Stack) -> None:
    shown = subprocess.run(
        ["openssl", "x509", "-in", stack.ca, "-noout", "-fingerprint", "-sha256", "-subject"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    fingerprint = shown.splitlines()[0].partition("=")[2].replace(":", "").lower()
    assert stack.health == {
        "status": "ok", "ca_sha256": fingerprint, "policy": stack.policy.digest(), "guard": "ok",
    }  # fmt: skip
    assert "bottle-fsm demo/implementer launch-1" in shown


STRICT = {
    "mode": ["regular"],
    "connection_strategy": "lazy",
    "upstream_cert": False,
    "add_upstream_certs_to_client_chain": False,
    "rawtcp": False,
    "websocket": False,
    "http3": False,
    "ssl_insecure": False,
    "validate_inbound_headers": True,
    "ignore_hosts": [],
    "allow_hosts": [],
    "tcp_hosts": [],
    "udp_hosts": [],
    "client_certs": None,
    "proxyauth": None,
    "upstream_auth": None,
}


def test_runs_mitmproxy_with_strict_options_and_no_addons_but_ours(fresh: Stack) -> None:
    process = fresh.start_interceptor(module="egress_proc.egress_options", deliver=False)
    (told,) = process.lines("options")
    found = {name: told["values"].get(name) for name in STRICT}
    assert found == STRICT
    assert told["values"]["listen_host"] == fresh.host
    assert told["values"]["ssl_verify_upstream_trusted_ca"].startswith(str(fresh.inner))
    assert told["addons"] == ["bottleegress", "bottlerunning", "errorcheck", "nextlayer", "proxyserver", "tlsconfig"]


def test_health_answers_nothing_else(stack: Stack) -> None:
    answer = stack.plain("GET /else HTTP/1.1\r\n\r\n", HEALTH_PORT)
    assert answer is not None
    assert answer.status == 404
    assert stack.plain("garbage\r\n\r\n", HEALTH_PORT) is None


def test_healthcheck_tells_by_its_exit_code(stack: Stack, fresh: Stack) -> None:
    module = "bottle_fsm.egress.healthcheck"
    done = run_to_end(module, f"http://{stack.host}:{HEALTH_PORT}/health")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "ok")
    assert run_to_end(module, f"http://{stack.guard_host}:{GUARD_PORT}/health").returncode == 0
    assert run_to_end(module, f"http://{stack.host}:{HEALTH_PORT}/else").returncode == 1
    assert run_to_end(module, f"http://{fresh.host}:{HEALTH_PORT}/health").returncode == 1
    assert run_to_end(module, "ftp://x/").returncode == 1
    assert run_to_end(module).returncode == 1
    fresh.start_interceptor(deliver=False)
    waiting = run_to_end(module, f"http://{fresh.host}:{HEALTH_PORT}/health")
    assert (waiting.returncode, json.loads(waiting.stdout)["status"]) == (1, "waiting_secrets")


def test_healthcheck_is_patient_if_it_is_asked_to_be(fresh: Stack) -> None:
    words = [*python_argv("bottle_fsm.egress.healthcheck"), f"http://{fresh.host}:{HEALTH_PORT}/health"]
    env = {**os.environ, PATIENCE: "60"}
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as patient:
        fresh.start_interceptor()
        output, errors = patient.communicate(timeout=60)
    assert (patient.returncode, json.loads(output)["status"], errors) == (0, "ok", "")
    nobody = subprocess.run([*words[:-1], "unix:/nonexistent"], env={**env, PATIENCE: "0.3"}, check=False, timeout=60)
    assert nobody.returncode == 1


def test_makes_its_ca_whole_even_after_a_crash_half_way(fresh: Stack) -> None:
    half = fresh.inner / "state" / "ca.making"
    half.mkdir(parents=True)
    (half / "mitmproxy-ca.pem").write_text("half a key")
    fresh.start_interceptor(deliver=False)
    assert not half.exists()
    assert b"half a key" not in (fresh.inner / "state/ca/mitmproxy-ca.pem").read_bytes()


def test_tells_no_token_in_any_output(stack: Stack) -> None:
    stack.get("allowed.test")
    assert stack.guard is not None
    assert stack.interceptor is not None
    wait_for(lambda: stack.guard and stack.guard.lines("tunnel_open"))
    for process in (stack.guard, stack.interceptor):
        text = process.out.read_text() + process.err.read_text()
        assert SCAN_TOKEN.reveal() not in text
        assert PROXY_TOKEN.reveal() not in text
        argv = " ".join(process.popen.args) if isinstance(process.popen.args, list) else ""
        assert SCAN_TOKEN.reveal() not in argv


def test_guard_answers_on_its_unix_sockets_even_after_one_that_was_killed(fresh: Stack, tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    doors.mkdir()
    content = files.guard_files(
        "builtin", fresh.policy, listen=str(doors), scan_token=SCAN_TOKEN, proxy_token=PROXY_TOKEN
    )
    write_sealed(placed(content, tmp_path, fresh.host), tmp_path)
    argv = [*python_argv("bottle_fsm.egress.guard"), "--config", str(tmp_path / "etc/guard.json")]
    for attempt in ("first", "after a kill"):
        process = start(argv, tmp_path, "guard")
        try:
            wait_for(lambda: _healthy(doors), what=attempt)
            assert stat.S_IMODE((doors / "proxy.sock").stat().st_mode) == 0o666
        finally:
            process.stop(signal.SIGTERM if attempt == "after a kill" else signal.SIGKILL)
    assert run_to_end("bottle_fsm.egress.healthcheck", f"unix:{doors}/proxy.sock").returncode == 1


def _healthy(doors: Path) -> bool:
    return run_to_end("bottle_fsm.egress.healthcheck", f"unix:{doors}/proxy.sock").returncode == 0
