"""What the sidecars read before they start, and everything that keeps them from starting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottle_fsm.egress import files, guard, interceptor_settings
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.sealed import SealError, manifest_bytes
from bottle_fsm.egress.settings import Address, SettingsError, SocketPath, listener_of
from bottle_fsm.secret import Secret

Change = Callable[[dict[str, bytes]], None]
SCAN, PROXY = Secret("scan-token-0123456789"), Secret("proxy-token-0123456789")
POLICY = compile_policy(bottle="p/a", launch="l", allow=[("a.com", 443), ("b.com", 443)])
REFUSED = (SealError, SettingsError, ValueError)


def content_of(sidecar: str) -> dict[str, bytes]:
    if sidecar == "guard":
        return files.guard_files("builtin", POLICY, listen="10.9.0.3", scan_token=SCAN, proxy_token=PROXY)
    return files.interceptor_files(POLICY, listen="10.8.0.2", guard="10.9.0.3", upstream_ca=b"pem")


def load(sidecar: str, where: Path, content: dict[str, bytes]) -> Any:
    for path, data in files.seal(content).items():
        target = Path(path.replace(files.CONFIG_DIR, str(where)))
        target.write_bytes(data.replace(files.CONFIG_DIR.encode(), str(where).encode()))
    # The paths inside the files were moved, so the seal is made anew over what was written.
    moved = {str(where / Path(path).name): (where / Path(path).name).read_bytes() for path in content}
    (where / "MANIFEST.json").write_bytes(manifest_bytes(moved))
    reader = guard.load if sidecar == "guard" else interceptor_settings.load
    return reader(where / f"{sidecar}.json")


def edit(path: str, **changes: object) -> Change:
    def change(content: dict[str, bytes]) -> None:
        value = json.loads(content[path])
        for name, new in changes.items():
            value.pop(name) if new is None else value.__setitem__(name, new)
        content[path] = json.dumps(value).encode()

    return change


def replace(path: str, data: bytes) -> Change:
    def change(content: dict[str, bytes]) -> None:
        content[path] = data

    return change


def test_reads_what_the_guard_is_given(tmp_path: Path) -> None:
    found = load("guard", tmp_path, content_of("guard"))
    assert (found.proxy, found.scan) == (Address("10.9.0.3", 8888), Address("10.9.0.3", 9090))
    assert found.policy == POLICY
    assert (found.tokens.scan, found.tokens.proxy) == (SCAN.reveal(), PROXY.reveal())
    assert SCAN.reveal() not in repr(found)


def test_reads_what_the_interceptor_is_given(tmp_path: Path) -> None:
    found = load("interceptor", tmp_path, content_of("interceptor"))
    assert (found.listen, found.relay) == (Address("10.8.0.2", 8080), Address("10.8.0.2", 8081))
    assert (found.health, found.guard, found.scan_port) == (Address("127.0.0.1", 8082), Address("10.9.0.3", 8888), 9090)
    assert (found.policy, found.upstream_ca) == (POLICY, b"pem")
    assert found.relay_caps.max_connections == 32


@pytest.mark.parametrize(
    "change",
    [
        replace(files.POLICY, b""),
        replace(files.POLICY, b"[]"),
        edit(files.POLICY, rules=[]),
        edit(files.POLICY, more=1),
        edit(files.POLICY, launch="another"),
        edit(files.POLICY, rules=[{"host": "evil.com", "port": 443, "kind": "https"}]),
    ],
)
@pytest.mark.parametrize("sidecar", ["guard", "interceptor"])
def test_refuses_a_wrong_policy(tmp_path: Path, sidecar: str, change: Change) -> None:
    content = content_of(sidecar)
    change(content)
    with pytest.raises(REFUSED):
        load(sidecar, tmp_path, content)


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"policy_sha256": None},
        {"policy_sha256": "0" * 64},
        {"version": 2},
        {"version": True},
        {"policy_file": 7},
        {"policy_file": ""},
        {"policy_file": "/nowhere"},
    ],
)
@pytest.mark.parametrize("sidecar", ["guard", "interceptor"])
def test_refuses_a_wrong_config(tmp_path: Path, sidecar: str, changes: dict[str, object]) -> None:
    content = content_of(sidecar)
    edit(f"{files.CONFIG_DIR}/{sidecar}.json", **changes)(content)
    with pytest.raises(REFUSED):
        load(sidecar, tmp_path, content)


@pytest.mark.parametrize(
    ("sidecar", "change"),
    [
        ("guard", edit(files.GUARD_CONFIG, proxy={"host": "guard.example", "port": 8888})),
        ("guard", edit(files.GUARD_CONFIG, proxy={"host": "127.0.0.1", "port": 0})),
        ("guard", edit(files.GUARD_CONFIG, proxy={"host": "127.0.0.1"})),
        ("guard", edit(files.GUARD_CONFIG, proxy="127.0.0.1:8888")),
        ("guard", edit(files.GUARD_CONFIG, limits={})),
        ("guard", edit(files.GUARD_CONFIG, limits={"requests_per_minute": 0, "burst": 1, "max_body_bytes": 1})),
        ("guard", edit(files.GUARD_TOKENS, scan_token="short")),
        ("guard", edit(files.GUARD_TOKENS, proxy_token=None)),
        ("guard", replace(files.GUARD_TOKENS, b"{}")),
        ("interceptor", edit(files.INTERCEPTOR_CONFIG, relay_caps={"max_bytes": 1})),
        ("interceptor", edit(files.INTERCEPTOR_CONFIG, guard={"host": "guard", "port": 8888})),
        ("interceptor", edit(files.INTERCEPTOR_CONFIG, upstream_ca_file="/nowhere")),
        ("interceptor", edit(files.INTERCEPTOR_CONFIG, scan_port="9090")),
    ],
)
def test_refuses_wrong_addresses_limits_and_tokens(tmp_path: Path, sidecar: str, change: Change) -> None:
    content = content_of(sidecar)
    change(content)
    with pytest.raises(REFUSED) as caught:
        load(sidecar, tmp_path, content)
    assert SCAN.reveal() not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("http://10.9.0.3:8888", True),
        ("http://[fd00::3]:8888", True),
        ("", False),
        ("https://10.9.0.3:8888", False),
        ("http://guard:8888", False),
        ("http://10.9.0.3:x", False),
        ("http://10.9.0.3", False),
        ("http://[10.9.0.3", False),
    ],
)
def test_takes_the_guards_address_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, right: bool
) -> None:
    monkeypatch.setenv("BOTTLE_FSM_GUARD_URL", url)
    content = files.interceptor_files(POLICY, listen="10.8.0.2", guard=None)
    if right:
        assert load("interceptor", tmp_path, content).guard.port == 8888
        return
    with pytest.raises(SettingsError, match="BOTTLE_FSM_GUARD_URL"):
        load("interceptor", tmp_path, content)


def test_lets_the_guard_listen_on_unix_sockets_in_a_directory(tmp_path: Path) -> None:
    content = files.guard_files("builtin", POLICY, listen="/run/guard", scan_token=SCAN, proxy_token=PROXY)
    found = load("guard", tmp_path, content)
    assert (found.proxy, found.scan) == (SocketPath("/run/guard/proxy.sock"), SocketPath("/run/guard/scan.sock"))
    assert files.guard_health_argv("builtin", listen="/run/guard")[-1] == "unix:/run/guard/proxy.sock"


@pytest.mark.parametrize("where", [{"path": "relative.sock"}, {"path": ""}, {"path": "/a", "port": 1}, "/a"])
def test_refuses_a_place_to_listen_that_is_neither_address_nor_socket(where: object) -> None:
    with pytest.raises(SettingsError, match=r"proxy|path"):
        listener_of(where, "proxy")
