"""From a sidecar's line to the record's: the same fields for every guard, and nothing that could be a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.egress.jsonlines import DECISION
from bottle_fsm.naming import ROLE_GUARD, ROLE_INTERCEPTOR
from bottle_fsm.traffic.lines import MAX_LINE, Origin, counted, gap, parse
from traffic.traffic_bench import decision, startup

GUARD = Origin(ROLE_GUARD, "demo/one", "0123456789ab")
INTERCEPTOR = Origin(ROLE_INTERCEPTOR, "demo/one", "0123456789ab")
SECRET = "ghp_0123456789abcdefghij"
HEAD = ["time", "source", "event", "bottle", "launch", *DECISION]


def kept(value: Any, origin: Origin = INTERCEPTOR) -> dict[str, Any]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    line = parse(raw, origin).line
    assert line is not None
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def ours(**more: Any) -> dict[str, Any]:
    value = json.loads(decision(1, **more))
    assert isinstance(value, dict)
    return value


def pipelock(event: str, **more: Any) -> dict[str, Any]:
    return {"time": "2026-05-01T10:00:00+02:00", "level": "info", "event": event, "agent": "a", **more}


def test_keeps_a_decision_with_bottle_and_launch_as_the_launcher_knows_them() -> None:
    found = kept(ours(bottle="another/one", launch="forged", source="guard"))
    assert list(found) == HEAD
    assert (found["source"], found["bottle"], found["launch"]) == ("interceptor", "demo/one", "0123456789ab")
    assert (found["host"], found["bytes"], found["time"]) == ("h1.test", 1, "2026-05-01T00:00:01Z")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"plain words",
        b"[1]",
        b'"decision"',
        b'{"event": 1}',
        b'{"event": "log", "level": "WARNING"}',
        b'{"event": "unheard-of", "host": "x"}',
        b"[" * 5000,
        b'{"event": "decision", "port": ' + b"9" * 5000 + b"}",
        json.dumps({"event": "decision", "x": "y" * MAX_LINE}).encode(),
        b'{"event": "decision", "host": "\xff"}',
        startup(),
    ],
)
def test_keeps_nothing_else(raw: bytes) -> None:
    assert parse(raw, INTERCEPTOR).line is None
    assert parse(raw, GUARD).line is None


def test_knows_a_first_line_and_a_warning_of_a_library() -> None:
    assert (parse(startup(), GUARD).first, parse(startup(), GUARD).event) == (True, True)
    assert (parse(decision(1), GUARD).first, parse(decision(1), GUARD).event) == (False, True)
    assert parse(b'{"event": "log"}', GUARD).event is False
    assert parse(b"words", GUARD).event is False


def test_fills_in_what_a_line_of_an_older_sidecar_lacks() -> None:
    value = {"event": "decision", "host": "h.test", "port": 443, "action": "deny", "reason": "protocol_not_allowed"}
    found = kept(value)
    assert list(found) == HEAD
    assert (found["time"], found["method"], found["ms"], found["reason"]) == ("", "", 0.0, "protocol_not_allowed")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("host", 7), ("port", "443"), ("port", -1), ("port", 70000), ("port", True), ("bytes", 1 << 70),
        ("bytes", 1.5), ("ms", "fast"), ("ms", -1), ("ms", float("nan")), ("ms", True), ("findings", "word"),
        ("status", None),
    ],
)  # fmt: skip
def test_takes_no_value_of_another_type(field: str, wrong: Any) -> None:
    assert kept(ours(**{field: wrong}))[field] == DECISION[field]


def test_passes_further_simple_fields_on_and_cuts_them() -> None:
    more = {"sent": 3, "masked": ["a", "b"], "scanner": "x" * 5000, "ratio": 0.5, "warned": True}
    found = kept(ours(**more, headers={"authorization": SECRET}, **{"Bad-Name": 1}, nothing=None))
    assert list(found) == [*HEAD, *more]
    assert len(found["scanner"]) == 512


def test_keeps_no_query_and_no_fragment() -> None:
    assert kept(ours(path=f"/a/b?token={SECRET}"))["path"] == "/a/b"
    assert kept(ours(path=f"/a/b#{SECRET}"))["path"] == "/a/b"


def test_keeps_how_many_lines_a_sidecar_had_no_room_for() -> None:
    found = kept({"time": "2026-05-01T00:00:00Z", "event": "dropped", "lines": 12, "more": "x"})
    assert found == {
        "time": "2026-05-01T00:00:00Z", "source": "interceptor", "event": "dropped", "bottle": "demo/one",
        "launch": "0123456789ab", "lines": 12,
    }  # fmt: skip


def test_stands_for_lines_that_were_lost() -> None:
    found = json.loads(gap(GUARD, after="T1", before=""))
    assert (found["event"], found["source"], found["time"], found["after"]) == ("gap", "guard", "T1", "T1")


@given(st.dictionaries(st.sampled_from([*HEAD, "extra", "lines", "target", "url", "scanner"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)), st.sampled_from([GUARD, INTERCEPTOR]))  # fmt: skip
def test_makes_one_line_of_plain_characters_or_none_of_anything(value: dict[str, Any], origin: Origin) -> None:
    line = parse(json.dumps(value).encode(), origin).line
    if line is not None:
        assert line.isascii()
        assert line.decode().isprintable()
        assert line.startswith(b'{"time": "')
        assert b'"source": "' + origin.source.encode() in line
        assert counted(line) in {"", "allow", "deny", "error"}


# -- pipelock ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (
            pipelock("tunnel_open", target="api.example.com:443", request_id="req-7"),
            {"host": "api.example.com", "port": 443, "method": "CONNECT", "action": "allow", "reason": ""},
        ),
        (
            pipelock("tunnel_close", target="api.example.com:8443", total_bytes=512, duration_ms=80),
            {"host": "api.example.com", "port": 8443, "action": "close", "bytes": 512, "ms": 80},
        ),
        (
            pipelock("blocked", method="CONNECT", target="evil.example:443", scanner="allowlist", reason="not on it"),
            {"host": "evil.example", "port": 443, "method": "CONNECT", "action": "deny", "reason": "allowlist"},
        ),
        (
            pipelock("blocked", method="GET", url=f"https://evil.example/p/{SECRET}?q={SECRET}", scanner="dlp"),
            {"host": "", "port": 0, "path": "", "method": "GET", "action": "deny", "reason": "dlp"},
        ),
        (
            pipelock("blocked", url=f"http://{SECRET}.evil.example/", scanner="subdomain_entropy", reason=SECRET),
            {"host": "", "action": "deny", "reason": "subdomain_entropy"},
        ),
        (
            pipelock("blocked", url="http://metadata.example/latest?x", scanner="ssrf"),
            {"host": "metadata.example", "port": 80, "path": "", "reason": "ssrf"},
        ),
        (pipelock("body_dlp", target="a.example:443", patterns=[SECRET]), {"host": "", "reason": "body_dlp"}),
        (pipelock("anomaly", target="a.example:443", reason=SECRET), {"action": "", "reason": "anomaly"}),
        (pipelock("error", target="[::1]:443", error=SECRET), {"host": "", "action": "error", "reason": "error"}),
        (pipelock("blocked", target=7, method=SECRET, scanner=SECRET), {"host": "", "method": "", "reason": "blocked"}),
        (pipelock("blocked", target=7, scanner="ssrf"), {"host": "", "port": 0, "reason": "ssrf"}),
        (pipelock("blocked", target="http://[broken"), {"host": "", "port": 0}),
        (pipelock("blocked", target="a.example:99999"), {"host": "", "port": 0}),
    ],
)  # fmt: skip
def test_brings_pipelocks_lines_to_the_same_fields(value: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = kept(value, GUARD)
    assert list(found)[: len(HEAD)] == HEAD
    assert {name: found[name] for name in wanted} == wanted
    assert (found["time"], found["by"]) == ("2026-05-01T08:00:00Z", "guard")
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize("event", ["startup", "shutdown", "config_reload", "allowed"])
def test_leaves_pipelocks_own_affairs_out(event: str) -> None:
    assert parse(json.dumps(pipelock(event)).encode(), GUARD).line is None


def test_takes_no_request_id_that_is_none() -> None:
    assert kept(pipelock("tunnel_open", target="a.example:443", request_id="req-12"), GUARD)["request_id"] == "req-12"
    assert "request_id" not in kept(pipelock("tunnel_open", target="a.example:443", request_id=SECRET), GUARD)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b"\x00\x00", b'{"source": "interceptor"}'])
def test_counts_no_damaged_line(line: bytes) -> None:
    assert counted(line) == ""
