"""The parts of the sidecars that need no process: seals, settings, ClientHello, addresses, encodings, logs."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress import content, guard_dial, scan, settings, wire
from bottle_fsm.egress.address_space import is_public
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.sealed import SealedFiles, SealError, manifest_bytes
from bottle_fsm.egress.tls_hello import client_hello_sni


def client_hello(name: str | None, *, alpn: int = 1) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols([f"protocol-{number:04}" for number in range(alpn)])
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


def test_reads_the_server_name_of_a_real_client_hello() -> None:
    assert client_hello_sni(client_hello("allowed.test")) == "allowed.test"


def test_waits_for_more_at_every_cut_of_a_client_hello() -> None:
    hello = client_hello("allowed.test")
    assert {client_hello_sni(hello[:end]) for end in range(len(hello))} == {None}


def test_reads_a_client_hello_cut_into_records() -> None:
    hello = client_hello("allowed.test", alpn=20)
    message = hello[5:]
    parts = [message[at : at + 100] for at in range(0, len(message), 100)]
    records = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
    assert client_hello_sni(records) == "allowed.test"


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"\x16\x02",
        b"\x17\x03\x01\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ],
)
def test_refuses_what_is_no_client_hello(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        client_hello_sni(data)


def test_refuses_a_client_hello_without_a_name() -> None:
    with pytest.raises(ValueError, match="exactly one server"):
        client_hello_sni(client_hello(None))


@given(st.binary(max_size=200))
def test_never_fails_otherwise_on_any_bytes(data: bytes) -> None:
    for start in (b"", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c"):
        try:
            found = client_hello_sni(start + data)
        except ValueError:
            continue
        assert found is None or isinstance(found, str)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_takes_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:0:0:0:0:0:80ff:fffe",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_refuses_special_addresses_in_every_disguise(address: str) -> None:
    assert not is_public(address)


POLICY = compile_policy(bottle="p/a", launch="l", allow=[("a.test", 443)], hosts={"a.test": "127.0.0.9"})


def resolved(monkeypatch: pytest.MonkeyPatch, host: str, *found: str | Exception) -> list[str]:
    async def ask() -> list[str]:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            if isinstance(found[0], Exception):
                raise found[0]
            return [(0, 0, 0, "", (address, 443)) for address in found]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        return await guard_dial.checked_addresses(POLICY, host, 443)

    return asyncio.run(ask())


def test_takes_the_static_address_for_its_own_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, "a.test", "1.1.1.1") == ["127.0.0.9"]
    with pytest.raises(guard_dial.DialError, match="ssrf_private_address") as caught:
        resolved(monkeypatch, "b.test", "127.0.0.9")
    assert caught.value.refused


def test_takes_public_addresses_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, "b.test", "1.1.1.1", "1.1.1.1", "1.0.0.1") == ["1.1.1.1", "1.0.0.1"]


@pytest.mark.parametrize("found", [("1.1.1.1", "10.0.0.1"), ("fe80::1%eth0",)])
def test_refuses_a_name_with_any_private_address(monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...]) -> None:
    with pytest.raises(guard_dial.DialError, match="ssrf_private_address"):
        resolved(monkeypatch, "b.test", *found)


@pytest.mark.parametrize("error", [OSError(), UnicodeError(), TimeoutError()])
def test_tells_an_unresolved_name_from_a_refused_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(guard_dial.DialError, match="dns_unresolved") as caught:
        resolved(monkeypatch, "b.test", error)
    assert not caught.value.refused


def sealed(where: Path, **contents: bytes) -> Path:
    paths = {str(where / name): data for name, data in contents.items()}
    for path, data in paths.items():
        Path(path).write_bytes(data)
    (where / "MANIFEST.json").write_bytes(manifest_bytes(paths))
    return where / next(iter(contents))


def test_reads_sealed_files(tmp_path: Path) -> None:
    config = sealed(tmp_path, config=b'{"a": 1}', other=b"bytes")
    found = SealedFiles.beside(config)
    assert found.read_object(str(config)) == {"a": 1}
    assert found.read(str(tmp_path / "other")) == b"bytes"
    with pytest.raises(SealError, match="not a JSON object"):
        found.read_object(str(tmp_path / "other"))
    with pytest.raises(SealError, match="not listed"):
        found.read(str(tmp_path / "third"))


@given(cut=st.integers(0, 200), which=st.sampled_from(["config", "other", "MANIFEST.json"]))
def test_reads_no_sealed_file_that_was_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, which: str) -> None:
    where = tmp_path_factory.mktemp("seal")
    config = sealed(where, config=b'{"a": 1}', other=b"x" * 40)
    whole = (where / which).read_bytes()
    (where / which).write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(SealError):
        SealedFiles.beside(config)


def test_reads_no_oversized_or_oddly_sealed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sealed(tmp_path, config=b'{"a": 1}')
    (tmp_path / "MANIFEST.json").write_text(json.dumps({str(config): 7}))
    with pytest.raises(SealError, match="differs"):
        SealedFiles.beside(config)
    monkeypatch.setattr("bottle_fsm.egress.sealed.MAX_FILE", 3)
    with pytest.raises(SealError, match="larger"):
        SealedFiles.beside(config)


def test_reads_tokens_and_never_shows_them() -> None:
    tokens = settings.Tokens.of({"scan_token": "a" * 16, "proxy_token": "b" * 16})
    assert (tokens.scan, tokens.proxy) == ("a" * 16, "b" * 16)
    assert "aaaa" not in repr(tokens)


@pytest.mark.parametrize("bad", ["", "short", "x" * 15, "é" * 20, "a\r\nb" * 10, 7, None])
def test_refuses_odd_tokens_without_showing_them(bad: Any) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.Tokens.of({"scan_token": bad, "proxy_token": "b" * 16})
    assert not bad or str(bad) not in str(caught.value).replace("scan_token", "")


@pytest.mark.parametrize(
    ("coding", "raw", "text"),
    [
        ([], b"x", b"x"),
        (["identity"], b"x", b"x"),
        (["", "gzip"], gzip.compress(b"abc", mtime=0), b"abc"),
        (["GZIP"], gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), b"ab"),
        (["gzip"], b"", b""),
    ],
)
def test_decodes_bodies(coding: list[str], raw: bytes, text: bytes) -> None:
    assert content.decoded(raw, coding) == text


def test_never_inflates_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(content.MAX_BODY + 1))
    with pytest.raises(content.ContentError, match="body_too_large"):
        content.decoded(bomb, ["gzip"])
    members = gzip.compress(bytes(content.MAX_BODY // 2 + 1)) * 2
    with pytest.raises(content.ContentError, match="body_too_large"):
        content.decoded(members, ["gzip"])


@given(st.text(max_size=50), st.integers(0, 3))
def test_parts_overlap_and_cover_the_text(tail: str, times: int) -> None:
    text = "x" * (times * (scan.CHUNK - scan.OVERLAP)) + tail
    parts = scan.parts_of(text)
    assert all(len(part) <= scan.CHUNK for part in parts)
    assert parts[0] + "".join(part[scan.OVERLAP :] for part in parts[1:]) == text


def test_every_token_lies_whole_in_one_part() -> None:
    for at in range(scan.CHUNK - 50, scan.CHUNK + 10, 7):
        text = "x" * at + "TOKEN" * 20 + "y" * scan.CHUNK
        assert any("TOKEN" * 20 in part for part in scan.parts_of(text))


def test_writes_one_plain_line_per_event() -> None:
    stream = io.StringIO()
    JsonLines(stream=stream, bottle="p/a").write("decision", host="a\n\x1b[31m\u2028", path="p" * 5000, ms=1)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isascii()
    assert text.rstrip("\n").isprintable()
    value = json.loads(text)
    assert (value["event"], value["bottle"], value["ms"], len(value["path"])) == ("decision", "p/a", 1, 512)


def test_goes_on_when_nobody_reads_its_lines() -> None:
    stream = io.StringIO()
    stream.close()
    JsonLines(stream=stream).write("decision")


def test_reads_the_head_of_a_message() -> None:
    head = wire.parse_head(b"HTTP/1.1 200\r\nA: 1\r\na: 2\r\nB:  x \r\n\r\n")
    assert head.start == ("HTTP/1.1", "200", "")
    assert (head.headers["a"], head.one("b"), head.one("c")) == (["1", "2"], "x", None)
    with pytest.raises(wire.WireError, match="repeated"):
        head.one("a")


@pytest.mark.parametrize(
    "raw", [b"\r\n\r\n", b"A\r\n\r\n", b"A B\r\n C: x\r\n\r\n", b"A B\r\n: x\r\n\r\n", b"A B\r\nX : y\r\n\r\n"]
)
def test_refuses_a_malformed_head(raw: bytes) -> None:
    with pytest.raises(wire.WireError, match="malformed"):
        wire.parse_head(raw)


@pytest.mark.parametrize(
    ("change", "allow", "failure"),
    [
        ({}, True, ""),
        ({"findings": "odd"}, True, ""),
        ({"decision": "deny", "findings": []}, False, ""),
        ({"decision": "Allow"}, False, "guard_malformed_answer"),
        ({"request_id": "b"}, False, "guard_answered_another_question"),
    ],
)
def test_judges_an_answer(change: dict[str, Any], allow: bool, failure: str) -> None:
    value = {"decision": "allow", "kind": "url", "request_id": "a", "findings": [{"rule_id": "r"}, 7, {}]} | change
    found = scan.judge(200, json.dumps(value).encode(), kind="url", request_id="a")
    assert (found.allow, found.failure) == (allow, failure)
