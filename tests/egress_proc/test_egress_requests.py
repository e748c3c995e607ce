"""What gets through the sidecars and what does not, counted at the server and at the guard."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import zlib
from pathlib import Path

import pytest

from egress_proc.egress_sidecars import (
    FAKE_GITHUB_TOKEN,
    GATE_HOST,
    Authority,
    Stack,
    TestServer,
    World,
    read_answer,
)

MIB = 1024 * 1024


def arrivals(world: World) -> int:
    return sum(len(server.requests) for server in (world.allowed, world.plain, world.other))


def test_lets_an_allowed_request_arrive_exactly_once(stack: Stack, world: World) -> None:
    before, tunnels = len(world.allowed.requests), stack.tunnels
    answer = stack.get("allowed.test", "/once?q=1")
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"hello from the server")
    arrived = world.allowed.requests[before:]
    assert [seen.line for seen in arrived] == ["GET /once?q=1 HTTP/1.1"]
    assert stack.tunnels == tunnels + 1


def test_lets_a_post_arrive_with_its_body(stack: Stack, world: World) -> None:
    body = b"some ordinary text " * 1000
    answer = stack.post("allowed.test", body)
    assert answer is not None
    assert answer.status == 200
    assert world.allowed.requests[-1].body == body


def test_lets_curl_through_with_nothing_but_proxy_and_ca(stack: Stack, world: World) -> None:
    before = len(world.allowed.requests)
    done = stack.curl("https://allowed.test/by-curl")
    assert (done.returncode, done.stdout) == (0, "hello from the server"), done.stderr
    assert len(world.allowed.requests) == before + 1


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_serves_both_versions_of_http(stack: Stack, world: World, version: str) -> None:
    before = len(world.allowed.requests)
    done = stack.curl(version, "-d", "x=1", "https://allowed.test/versions")
    assert (done.returncode, done.stdout) == (0, "hello from the server"), done.stderr
    assert [seen.body for seen in world.allowed.requests[before:]] == [b"x=1"]


def test_serves_several_requests_on_one_connection_by_one_tunnel(stack: Stack, world: World) -> None:
    before, tunnels = len(world.allowed.requests), stack.tunnels
    done = stack.curl("--http1.1", "https://allowed.test/1", "https://allowed.test/2", "https://allowed.test/3")
    assert done.returncode == 0, done.stderr
    assert [seen.line.split()[1] for seen in world.allowed.requests[before:]] == ["/1", "/2", "/3"]
    assert stack.tunnels == tunnels + 1


@pytest.mark.parametrize("spelling", ["ALLOWED.TEST", "Allowed.test", "allowed.test."])
def test_takes_other_spellings_of_an_allowed_name_and_forwards_one(stack: Stack, world: World, spelling: str) -> None:
    before = len(world.allowed.requests)
    done = stack.curl(f"https://{spelling}/spelled")
    assert done.returncode == 0, done.stderr
    assert [seen.header("host") for seen in world.allowed.requests[before:]] == [["allowed.test"]]


@pytest.mark.parametrize("host", ["a.wild.test", "a.b.wild.test"])
def test_lets_any_depth_under_a_wildcard_through(stack: Stack, world: World, host: str) -> None:
    before = len(world.allowed.requests)
    answer = stack.get(host)
    assert answer is not None
    assert answer.status == 200
    assert len(world.allowed.requests) == before + 1


def test_allows_another_port_only_where_a_rule_names_it(stack: Stack, world: World) -> None:
    answer = stack.get("other.test", port=8443)
    assert answer is not None
    assert answer.status == 200
    for target in ("other.test:443", "allowed.test:8443"):
        sock, refused = stack.connect(target)
        sock.close()
        assert refused is not None
        assert (refused.status, refused.json["reason"]) == (403, "not_listed")


@pytest.mark.parametrize(
    "target",
    [
        "denied.test:443", "evil-allowed.test:443", "allowed.test.evil.test:443", "wild.test:443", "evil.test:443",
        "notwild.test:443", "allowed.test:53", "allowed.test:22", "git.test:22022", "denied.bottle-fsm.internal:443",
        "all\u043ewed.test:443", "xn--allwed-jye.test:443", "allowed.test%00:443",
    ],
)  # fmt: skip
def test_refuses_a_connect_to_anything_not_listed(stack: Stack, target: str) -> None:
    tunnels = stack.tunnels
    sock, answer = stack.connect(target)
    with sock:
        assert answer is None or answer.status in {400, 403}
    assert stack.tunnels == tunnels


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "2130706433", "017700000001", "0x7f000001", "127.1", "0x7f.1", "127.0.0.1.",
     "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "1.1.1.1"],
)  # fmt: skip
def test_refuses_address_literals_in_every_form(stack: Stack, address: str) -> None:
    tunnels = stack.tunnels
    sock, answer = stack.connect(f"{address}:443")
    with sock:
        assert answer is None or answer.status in {400, 403}
    plain = stack.plain(f"GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n")
    assert plain is None or plain.status in {400, 403}
    assert stack.tunnels == tunnels


@pytest.mark.parametrize("sni", ["evil.test", "a.wild.test", ""])
def test_refuses_tls_for_another_name_than_the_tunnel_or_none(stack: Stack, world: World, sni: str) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    with pytest.raises((OSError, AssertionError)), stack.tunnel("allowed.test:443", sni=sni):
        pass
    assert (arrivals(world), stack.tunnels) == (before, tunnels)
    assert stack.decisions[-1]["reason"] == ("sni_mismatch" if sni else "sni_missing")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("GET / HTTP/1.1\r\nHost: a.wild.test\r\n", "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: evil.test\r\n", "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: allowed.test:8443\r\n", "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: allowed.test\r\n", "host_header_repeated"),
        ("GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\n", "host_header_repeated"),
        ("GET / HTTP/1.1\r\nX: y\r\n", "host_header_missing"),
        ("GET / HTTP/1.1\r\nHost:\r\n", "host_mismatch"),
        ("GET https://evil.test/ HTTP/1.1\r\nHost: allowed.test\r\n", "absolute_form_in_tunnel"),
        ("GET https://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n", "absolute_form_in_tunnel"),
        ("OPTIONS * HTTP/1.1\r\nHost: allowed.test\r\n", "target_form_refused"),
        ("TRACE / HTTP/1.1\r\nHost: allowed.test\r\n", "method_refused"),
    ],
)
def test_refuses_a_head_that_names_another_server_or_form(stack: Stack, world: World, head: str, reason: str) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.https("allowed.test:443", head + "\r\n")
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (403, reason)
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


@pytest.mark.parametrize(
    "raw",
    [
        "POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: allowed.test\r\nBad Header: x\r\n\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    ],
)
def test_refuses_smuggling_forms(stack: Stack, world: World, raw: str) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.https("allowed.test:443", raw)
    assert answer is None or answer.status == 400
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


def test_refuses_http2_with_another_authority(stack: Stack, world: World) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    done = stack.curl(
        "--http2", "-H", "Host: a.wild.test", "-w", "%{http_version} %{http_code}", "https://allowed.test/"
    )
    assert done.stdout.endswith("2 403"), done
    assert "host_mismatch" in done.stdout
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-x\r\n", b"\x00\x01\x02\x03", b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n"]
)
def test_closes_a_tunnel_for_tls_that_carries_something_else(stack: Stack, world: World, raw: bytes) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    sock, answer = stack.connect("allowed.test:443")
    assert answer is not None
    with sock:
        sock.sendall(raw)
        assert sock.recv(100) == b""
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


def test_closes_tls_to_the_proxy_itself(stack: Stack, world: World) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", "--proxy-insecure", "-x", f"https://{stack.host}:8080", "http://allowed.test/"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


@pytest.mark.parametrize("target", ["http://allowed.test/plain", "/plain", "http://allowed.test:80/plain"])
def test_serves_plain_http_where_a_rule_says_port_80(stack: Stack, world: World, target: str) -> None:
    before, tunnels = len(world.plain.requests), stack.tunnels
    answer = stack.plain(f"GET {target} HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    assert answer is not None
    assert answer.status == 200
    assert [seen.line for seen in world.plain.requests[before:]] == ["GET /plain HTTP/1.1"]
    assert stack.tunnels == tunnels + 1


def test_serves_plain_http_inside_a_tunnel_to_port_80(stack: Stack, world: World) -> None:
    before = len(world.plain.requests)
    done = stack.curl("--proxytunnel", "http://allowed.test/tunnelled")
    assert (done.returncode, done.stdout) == (0, "hello from the server"), done.stderr
    assert len(world.plain.requests) == before + 1


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("GET http://allowed.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", "host_mismatch"),
        ("GET http://a.wild.test/ HTTP/1.1\r\nHost: a.wild.test\r\n\r\n", "not_listed"),
        ("GET http://allowed.test:8080/ HTTP/1.1\r\nHost: allowed.test:8080\r\n\r\n", "plain_http_port"),
        ("GET https://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "scheme_mismatch"),
        ("GET /stats HTTP/1.1\r\nHost: {guard}:8888\r\n\r\n", "plain_http_port"),
        ("GET http://gate.bottle-fsm.internal/ HTTP/1.1\r\nHost: gate.bottle-fsm.internal\r\n\r\n", "gate_needs_tls"),
        ("GET http://mitm.it/ HTTP/1.1\r\nHost: mitm.it\r\n\r\n", "not_listed"),
    ],
)
def test_refuses_plain_http_elsewhere(stack: Stack, world: World, raw: str, reason: str) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.plain(raw.replace("{guard}", stack.guard_host))
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (403, reason)
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


@pytest.mark.parametrize("path", ["/stats", "/metrics", "/fetch", "/health"])
def test_never_hands_a_plain_request_to_the_guards_own_paths(stack: Stack, world: World, path: str) -> None:
    before = len(world.plain.requests)
    answer = stack.plain(f"GET {path} HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    assert answer is not None
    assert answer.body == b"hello from the server"
    assert [seen.line for seen in world.plain.requests[before:]] == [f"GET {path} HTTP/1.1"]


def test_strips_an_upgrade_so_that_no_websocket_begins(stack: Stack, world: World) -> None:
    answer = stack.get(
        "allowed.test",
        "/ws",
        headers="Connection: keep-alive, Upgrade, x-hop\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    )
    assert answer is not None
    assert answer.status == 200
    seen = world.allowed.requests[-1]
    assert (seen.header("upgrade"), seen.header("connection")) == ([], ["x-hop"])


def test_refuses_a_secret_in_a_body(stack: Stack, world: World) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.post("allowed.test", f"my token is {FAKE_GITHUB_TOKEN} ok".encode())
    assert answer is not None
    assert (answer.status, answer.json["reason"], answer.json["findings"]) == (
        403,
        "guard_refused_body",
        ["github_token"],
    )
    assert (arrivals(world), stack.tunnels) == (before, tunnels)
    assert FAKE_GITHUB_TOKEN.encode() not in answer.body


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", lambda body: gzip.compress(b"first member", mtime=0) + gzip.compress(body, mtime=0)),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("identity", lambda body: body),
    ],
)
def test_refuses_a_secret_in_an_encoded_body(stack: Stack, world: World, coding: str, pack: object) -> None:
    assert callable(pack)
    before = arrivals(world)
    clean = stack.post("allowed.test", pack(b"nothing special"), headers=f"Content-Encoding: {coding}\r\n")
    assert clean is not None
    assert clean.status == 200
    answer = stack.post("allowed.test", pack(FAKE_GITHUB_TOKEN.encode()), headers=f"Content-Encoding: {coding}\r\n")
    assert answer is not None
    assert (answer.status, answer.json["findings"]) == (403, ["github_token"])
    assert arrivals(world) == before + 1


@pytest.mark.parametrize(
    ("coding", "body", "status", "reason"),
    [
        ("br", b"\x0b\x02\x80abc\x03", 415, "content_encoding_unknown"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), 415, "content_encoding_nested"),
        ("gzip", b"not gzip at all", 400, "content_encoding_malformed"),
        ("gzip", gzip.compress(b"cut off", mtime=0)[:-4], 400, "content_encoding_malformed"),
        ("deflate", zlib.compress(b"x") + b"tail", 400, "content_encoding_malformed"),
        ("gzip", gzip.compress(bytes(40 * MIB)), 413, "body_too_large"),
    ],
)
def test_refuses_a_body_that_it_cannot_look_into(  # noqa: PLR0917 - the columns of a table
    stack: Stack, world: World, coding: str, body: bytes, status: int, reason: str
) -> None:
    before = arrivals(world)
    answer = stack.post("allowed.test", body, headers=f"Content-Encoding: {coding}\r\n")
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert arrivals(world) == before


def test_finds_a_secret_where_two_parts_of_a_long_body_meet(stack: Stack, world: World) -> None:
    before = arrivals(world)
    text = bytearray(b"x" * (256 * 1024 - 20) + FAKE_GITHUB_TOKEN.encode() + b"y" * 300_000)
    answer = stack.post("allowed.test", bytes(text))
    assert answer is not None
    assert (answer.status, answer.json["findings"]) == (403, ["github_token"])
    assert arrivals(world) == before


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/q?text={FAKE_GITHUB_TOKEN}", ""),
        (f"/{FAKE_GITHUB_TOKEN}/x", ""),
        (f"/{FAKE_GITHUB_TOKEN.replace('_', '%5F')}", ""),
        ("/", f"X-Note: Bearer {FAKE_GITHUB_TOKEN}\r\n"),
        ("/", f"X-Whatever: {FAKE_GITHUB_TOKEN}\r\n"),
    ],
)
def test_refuses_a_secret_in_url_or_header_and_never_repeats_it(
    stack: Stack, world: World, path: str, headers: str
) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.get("allowed.test", path, headers=headers)
    assert answer is not None
    assert (answer.status, answer.json["reason"], answer.json["findings"]) == (403, "guard_refused", ["github_token"])
    assert (arrivals(world), stack.tunnels) == (before, tunnels)
    assert stack.interceptor is not None
    assert stack.guard is not None
    for log in (stack.interceptor.out, stack.interceptor.err, stack.guard.out, stack.guard.err):
        assert FAKE_GITHUB_TOKEN[4:] not in log.read_text()


def test_refuses_a_secret_in_the_trailers_of_http2(stack: Stack, world: World) -> None:
    before = arrivals(world)
    assert stack.by_http2("/trailers", trailer=FAKE_GITHUB_TOKEN) == "403"
    assert stack.decisions[-1]["findings"] == ["github_token"]
    assert arrivals(world) == before


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/ HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /second", "x"),
        ("/ HTTP/1.1", "x"),
        ("/", "x\r\nHost: evil.test"),
        ("/", "x\nHost: evil.test"),
    ],
)
def test_lets_no_line_break_of_http2_become_a_header_of_http1(
    stack: Stack, world: World, path: str, header: str
) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    assert stack.by_http2(path, header) in {"403", "400", "reset"}
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


def test_frames_a_body_of_http2_so_that_it_is_no_second_request(stack: Stack, world: World) -> None:
    before = len(world.allowed.requests)
    second = "GET /second HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    assert stack.by_http2("/first", body=second) == "200"
    assert stack.by_http2("/then") == "200"
    arrived = world.allowed.requests[before:]
    assert [(seen.line, seen.body) for seen in arrived] == [
        ("POST /first HTTP/1.1", second.encode()),
        ("POST /then HTTP/1.1", b"ok"),
    ]


def test_streams_a_large_answer_in_bounded_memory(stack: Stack, tmp_path: Path) -> None:
    assert stack.interceptor is not None
    pid = stack.interceptor.popen.pid

    def resident() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    stack.get("allowed.test")
    before = resident()
    target = tmp_path / "large"
    done = stack.curl("-o", str(target), "https://allowed.test/large/100")
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size == 100 * MIB
    assert resident() - before < 48 * 1024


def test_lets_nothing_arrive_of_a_chunked_body_with_trailers(stack: Stack, world: World) -> None:
    before = arrivals(world)
    head = b"POST /t HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    with stack.tunnel("allowed.test:443") as sock:
        sock.settimeout(1)
        sock.sendall(head + b"2\r\nok\r\n0\r\nX-Trailer: x\r\n\r\n")
        answer = read_answer(sock)
    assert answer is None or answer.status != 200
    assert arrivals(world) == before


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_answers_413_to_a_body_over_ten_mib(stack: Stack, world: World, framing: str) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    body = b"z" * (10 * MIB + 1)
    if framing == "length":
        answer = stack.post("allowed.test", body)
    else:
        head = b"POST /big HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = stack.https("allowed.test:443", head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (413, "body_too_large")
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


def test_answers_413_by_http2(stack: Stack, world: World, tmp_path: Path) -> None:
    before = arrivals(world)
    big = tmp_path / "big"
    big.write_bytes(b"z" * (11 * MIB))
    sent = stack.curl(
        "--http2", "--data-binary", f"@{big}", "-o", "/dev/null", "-w", "%{http_code}", "https://allowed.test/"
    )
    assert sent.stdout == "413"
    assert arrivals(world) == before


def test_lets_a_body_just_within_the_limit_arrive(stack: Stack, world: World) -> None:
    body = b"q" * (10 * MIB)
    answer = stack.post("allowed.test", body)
    assert answer is not None
    assert answer.status == 200
    assert len(world.allowed.requests[-1].body) == len(body)


def send_for_long(sock: ssl.SSLSocket) -> None:
    for _ in range(100):
        sock.sendall(bytes(MIB))


def test_answers_a_refused_upload_before_the_body_and_then_cuts_it(stack: Stack) -> None:
    with stack.tunnel("allowed.test:443") as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 1000000000\r\n\r\n")
        data = sock.recv(65536)
        assert data.startswith(b"HTTP/1.1 403 ")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            send_for_long(sock)


def test_answers_a_refused_head_without_a_body_and_keeps_the_connection_in_step(stack: Stack) -> None:
    with stack.tunnel("allowed.test:443") as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        refused = read_answer(sock)
        sock.sendall(b"GET /after HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        served = read_answer(sock)
    assert refused is not None
    assert served is not None
    assert (refused.status, refused.body) == (403, b"")
    assert (served.status, served.body) == (200, b"hello from the server")


def test_serves_many_agents_connections_at_once(stack: Stack, world: World) -> None:
    before = len(world.allowed.requests)
    urls = [f"https://allowed.test/many/{number}" for number in range(60)]
    done = stack.curl("--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "60", "-f", *urls)
    assert done.returncode == 0, done.stderr
    assert len(world.allowed.requests) == before + 60


def test_tells_an_upload_with_expect_that_it_is_refused(stack: Stack) -> None:
    head = "POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    answer = stack.https("allowed.test:443", head)
    assert answer is not None
    assert answer.status == 403


def test_escapes_what_an_agent_writes_into_the_log(stack: Stack) -> None:
    assert stack.interceptor is not None
    stack.https("allowed.test:443", b'GET /\x1b[31m"}{\xe2\x80\xa8 HTTP/1.1\r\nHost: evil\x1b[0m.test\r\n\r\n')
    stack.plain(b"GET http://\x1b[31mred/ HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m\r\n\r\n")
    text = stack.interceptor.out.read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in text)
    assert stack.decisions[-1]["action"] == "deny"


def test_refuses_an_upstream_with_an_untrusted_certificate(stack: Stack, world: World) -> None:
    stranger = Authority.make(stack.where / "stranger")
    server = TestServer((world.address, 9443), tls=stranger.issue("selfsigned.test"))
    try:
        answer = stack.get("selfsigned.test", port=9443)
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (502, "upstream_unreachable")
        assert server.requests == []
    finally:
        server.close()


def test_answers_502_when_the_server_is_down(stack: Stack) -> None:
    answer = stack.get("dead.test", port=9444)
    assert answer is not None
    assert (answer.status, answer.json["by"]) == (502, "guard")


def test_refuses_an_allowed_name_that_resolves_to_a_private_address(stack: Stack) -> None:
    answer = stack.get("localhost")
    assert answer is not None
    assert (answer.status, answer.json["findings"]) == (403, ["ssrf_private_address"])


def test_writes_a_decision_with_rule_and_path_but_no_query(stack: Stack) -> None:
    stack.get("allowed.test", "/some/path?text=value")
    line = stack.decisions[-1]
    assert line["ms"] > 0
    wanted = {
        "bottle": "demo/implementer", "launch": "launch-1", "host": "allowed.test", "port": 443, "method": "GET",
        "path": "/some/path", "rule": "https://allowed.test:443", "action": "allow", "reason": "",
    }  # fmt: skip
    assert {name: line[name] for name in wanted} == wanted


def test_gate_answers_by_itself_and_opens_nothing(stack: Stack) -> None:
    tunnels = stack.tunnels
    answer = stack.get(GATE_HOST)
    assert answer is not None
    assert (answer.status, answer.json) == (200, {"gate": "ok", "launch": "launch-1", "policy": stack.policy.digest()})
    assert stack.curl(f"https://{GATE_HOST}/").returncode == 0
    assert stack.tunnels == tunnels


@pytest.mark.parametrize(
    ("host", "port", "decision", "by", "rule"),
    [
        ("allowed.test", 443, "allow", "guard", "https://allowed.test:443"),
        ("allowed.test", 80, "allow", "guard", "http://allowed.test:80"),
        ("x.y.wild.test", 443, "allow", "guard", "https://*.wild.test:443"),
        ("git.test", 22022, "allow", "guard", "ssh-tcp://git.test:22022"),
        ("localhost", 443, "deny", "guard", "https://localhost:443"),
        ("evil.test", 443, "deny", "interceptor", ""),
        ("allowed.test", 22, "deny", "interceptor", ""),
        ("denied.bottle-fsm.internal", 443, "deny", "interceptor", ""),
        ("127.0.0.1", 443, "deny", "interceptor", ""),
    ],
)
def test_gate_tells_a_verdict_without_sending_anything(  # noqa: PLR0917 - the columns of a table
    stack: Stack, world: World, host: str, port: int, decision: str, by: str, rule: str
) -> None:
    before, tunnels = arrivals(world), stack.tunnels
    answer = stack.get(GATE_HOST, f"/verdict?host={host}&port={port}")
    assert answer is not None
    assert answer.status == 200
    assert {name: answer.json[name] for name in ("decision", "by", "rule", "host", "port")} == {
        "decision": decision, "by": by, "rule": rule, "host": host, "port": port,
    }  # fmt: skip
    assert (arrivals(world), stack.tunnels) == (before, tunnels)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/verdict", 400), ("/verdict?host=a&port=x", 400), ("/verdict?host=a&host=b&port=1", 400), ("/else", 404)],
)
def test_gate_answers_nothing_else(stack: Stack, path: str, status: int) -> None:
    answer = stack.get(GATE_HOST, path)
    assert answer is not None
    assert answer.status == status


def test_gate_refuses_other_methods(stack: Stack) -> None:
    answer = stack.post(GATE_HOST, b"x")
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (403, "method_refused")
