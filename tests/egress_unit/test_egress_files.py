"""The files and commands of the sidecars, for both engines."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from bottle_fsm.egress import files, pipelock
from bottle_fsm.egress.policy import EgressPolicy, compile_policy
from bottle_fsm.secret import Secret

SCAN, PROXY = Secret("scan-token-0123456789"), Secret("proxy-token-0123456789")
POLICY = compile_policy(
    bottle="p/a",
    launch="l",
    allow=[("a.com", 443), ("a.com", 80), ("*.b.com", 443)],
    ssh=[("g.com", 22)],
    hosts={"a.com": "10.1.2.3", "g.com": "fd00::1"},
)

SCHEMA: dict[str, Any] = {
    "version": int,
    "mode": str,
    "api_allowlist": list,
    "forward_proxy": {"enabled": bool},
    "fetch_proxy": {"listen": str, "monitoring": {"max_requests_per_minute": int}},
    "request_body_scanning": {"enabled": bool, "action": str, "scan_headers": bool},
    "dlp": {"scan_env": bool, "patterns": list},
    "scan_api": {
        "listen": str,
        "auth": {"bearer_tokens": list},
        "rate_limit": {"requests_per_minute": int, "burst": int},
        "max_body_bytes": int,
        "field_limits": {"text": int},
        "timeouts": {"read": str, "write": str, "scan": str},
        "connection_limit": int,
    },
    "metrics_listen": str,
    "internal": list,
    "trusted_domains": list,
    "ssrf": {"ip_allowlist": list},
    "logging": {"format": str, "output": str, "include_allowed": bool, "include_blocked": bool},
}


def check(value: Any, schema: Any, place: str = "config") -> None:
    """Stand in for the strict loading of pipelock: an unknown key or a wrong type is an error."""
    if not isinstance(schema, dict):
        assert type(value) is schema, place
        return
    assert isinstance(value, dict), place
    for key, inner in value.items():
        assert key in schema, f"{place}.{key} is unknown"
        check(inner, schema[key], f"{place}.{key}")


def load(policy: EgressPolicy) -> dict[str, Any]:
    text = pipelock.pipelock_yaml(policy, listen="10.9.0.3", scan_token=SCAN.reveal())

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    value = json.loads(text, object_pairs_hook=once)
    assert isinstance(value, dict)
    return value


def test_the_stand_in_notices_an_unknown_key_and_a_wrong_type() -> None:
    wrongs: list[Any] = [
        {"surprise": 1},
        {"dlp": {"action": "block"}},
        {"version": "1"},
        {"dlp": []},
        {"version": True},
    ]
    for wrong in wrongs:
        with pytest.raises(AssertionError):
            check(wrong, SCHEMA)


def test_generates_a_pipelock_config_that_strict_loading_takes() -> None:
    config = load(POLICY)
    check(config, SCHEMA)
    assert config["version"] == 1
    assert config["mode"] == "strict"
    assert config["api_allowlist"] == ["*.b.com", "a.com", "g.com"]
    assert config["forward_proxy"] == {"enabled": True}
    assert config["request_body_scanning"] == {"enabled": True, "action": "block", "scan_headers": True}
    assert config["dlp"] == {"scan_env": False}
    assert config["fetch_proxy"]["listen"] == "10.9.0.3:8888"
    assert config["fetch_proxy"]["monitoring"]["max_requests_per_minute"] > 60
    assert config["scan_api"]["listen"] == "10.9.0.3:9090"
    assert config["scan_api"]["auth"]["bearer_tokens"] == [SCAN.reveal()]
    assert config["metrics_listen"].startswith("127.0.0.1:")


def test_excepts_exactly_the_static_addresses_from_the_private_ranges() -> None:
    config = load(POLICY)
    assert config["ssrf"] == {"ip_allowlist": ["10.1.2.3/32", "fd00::1/128"]}
    assert "trusted_domains" not in config
    assert {"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fc00::/7"} <= set(config["internal"])
    assert "ssrf" not in load(compile_policy(bottle="p/a", launch="l", allow=[("a.com", 443)]))


@pytest.mark.parametrize("bottle", ['p/"a', "p/a\nmode: off", "p/a: {", "p/#", "p/\u2028"])
def test_no_name_can_break_out_of_a_file(bottle: str) -> None:
    policy = compile_policy(bottle=bottle, launch="l", allow=[("a.com", 443)])
    check(load(policy), SCHEMA)
    assert EgressPolicy.from_json(policy.to_json()).bottle == bottle


def test_starts_and_checks_each_engine() -> None:
    assert pipelock.run_argv("10.9.0.3") == (
        "/pipelock",
        "run",
        "--config",
        "/etc/bottle-fsm/pipelock.yaml",
        "--listen",
        "10.9.0.3:8888",
    )
    assert files.guard_argv("pipelock", listen="10.9.0.3") == pipelock.run_argv("10.9.0.3")
    assert files.guard_health_argv("pipelock", listen="10.9.0.3")[1:] == ("healthcheck", "--addr", "10.9.0.3:8888")
    assert pipelock.check_argv()[1] == "check"
    assert files.guard_argv("builtin", listen="x")[-1] == "/etc/bottle-fsm/guard.json"
    assert files.guard_health_argv("builtin", listen="10.9.0.3")[-1] == "http://10.9.0.3:8888/health"


@pytest.mark.parametrize("engine", ["builtin", "pipelock"])
def test_tokens_stand_only_in_the_files_that_are_marked_secret(engine: files.Engine) -> None:
    content = files.guard_files(engine, POLICY, listen="10.9.0.3", scan_token=SCAN, proxy_token=PROXY)
    holders = {path for path, data in content.items() if SCAN.reveal().encode() in data}
    assert holders == set(content) & files.SECRET_PATHS
    assert len(holders) == 1
    inner = files.interceptor_files(POLICY, listen="10.8.0.2", guard="10.9.0.3", upstream_ca=b"pem")
    assert not any(SCAN.reveal().encode() in data or PROXY.reveal().encode() in data for data in inner.values())
    argv = " ".join((*files.guard_argv(engine, listen="x"), *files.INTERCEPTOR_ARGV, *files.INTERCEPTOR_HEALTH_ARGV))
    assert SCAN.reveal() not in argv


def test_the_interceptors_files_say_where_everything_is() -> None:
    content = files.interceptor_files(POLICY, listen="10.8.0.2", guard="10.9.0.3", upstream_ca=b"pem")
    config = json.loads(content[files.INTERCEPTOR_CONFIG])
    assert config["listen"] == {"host": "10.8.0.2", "port": 8080}
    assert config["relay"] == {"host": "10.8.0.2", "port": 8081}
    assert config["health"] == {"host": "127.0.0.1", "port": 8082}
    assert config["guard"] == {"host": "10.9.0.3", "port": 8888}
    assert config["policy_sha256"] == hashlib.sha256(content[files.POLICY]).hexdigest() == POLICY.digest()
    assert content[config["upstream_ca_file"]] == b"pem"
    plain = files.interceptor_files(POLICY, listen="10.8.0.2", guard=None)
    assert set(plain) == {files.POLICY, files.INTERCEPTOR_CONFIG}
    assert "guard" not in json.loads(plain[files.INTERCEPTOR_CONFIG])


def test_seals_with_the_manifest_last() -> None:
    content = files.interceptor_files(POLICY, listen="10.8.0.2", guard=None)
    sealed = files.seal(content)
    assert list(sealed)[-1] == files.MANIFEST
    assert json.loads(sealed[files.MANIFEST]) == {p: hashlib.sha256(d).hexdigest() for p, d in content.items()}


@pytest.mark.parametrize("engine", ["builtin", "pipelock"])
def test_digest_says_nothing_about_tokens_and_everything_about_the_rest(engine: files.Engine) -> None:
    def digest(scan: Secret, proxy: Secret, policy: EgressPolicy = POLICY) -> str:
        content = files.guard_files(engine, policy, listen="10.9.0.3", scan_token=scan, proxy_token=proxy)
        return files.files_digest(content, tokens=(scan, proxy))

    same = digest(SCAN, PROXY)
    assert digest(Secret("another-scan-token-77"), Secret("another-proxy-token-7")) == same
    assert digest(SCAN, PROXY, compile_policy(bottle="p/a", launch="l", allow=[("c.com", 443)])) != same


def test_delivers_the_secrets_as_one_object() -> None:
    assert json.loads(files.interceptor_secrets(SCAN, PROXY)) == {
        "scan_token": SCAN.reveal(),
        "proxy_token": PROXY.reveal(),
        "secrets": [],
        "injections": [],
    }
