"""What the interceptor is told: its sealed files read into one value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bottle_fsm.egress import pump
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.relay import RelayCaps
from bottle_fsm.egress.sealed import SealedFiles
from bottle_fsm.egress.settings import Address, SettingsError, address_of, expect_keys, number_of, text_of

GUARD_URL_VARIABLE: Final = "BOTTLE_FSM_GUARD_URL"
"""Where the guard's address comes from when the configuration leaves it out: `http://ADDRESS:PORT`."""
_REQUIRED: Final = {
    "version",
    "listen",
    "relay",
    "health",
    "scan_port",
    "policy_file",
    "policy_sha256",
    "secrets_file",
    "confdir",
    "ca_file",
    "relay_caps",
}
_OPTIONAL: Final = frozenset({"guard", "upstream_ca_file"})
_CAPS: Final = ("max_bytes", "max_seconds", "idle_seconds", "max_connections")


@dataclass(frozen=True, slots=True)
class InterceptorSettings:
    """Where to listen, where the guard is, the policy, and the paths of what is made or delivered later."""

    listen: Address
    relay: Address
    health: Address
    guard: Address
    scan_port: int
    policy: EgressPolicy
    secrets_file: Path
    confdir: Path
    ca_file: Path
    upstream_ca: bytes
    relay_caps: RelayCaps


def load(config: Path) -> InterceptorSettings:
    """Read the settings from their sealed files.

    Raises:
        SealError: a file is missing, changed or malformed.
        SettingsError: the settings make no sense.
        ValueError: the policy is none.
    """
    files = SealedFiles.beside(config)
    value = files.read_object(str(config))
    expect_keys(value, _REQUIRED, str(config), optional=_OPTIONAL)
    number_of(value, "version", low=1, high=1)
    policy = EgressPolicy.from_json(files.read(text_of(value, "policy_file")).decode())
    if policy.digest() != value["policy_sha256"]:
        raise SettingsError("policy_sha256: differs from the policy's digest")
    return InterceptorSettings(
        listen=address_of(value["listen"], "listen"),
        relay=address_of(value["relay"], "relay"),
        health=address_of(value["health"], "health"),
        guard=_guard(value),
        scan_port=number_of(value, "scan_port", low=1, high=65535),
        policy=policy,
        secrets_file=Path(text_of(value, "secrets_file")),
        confdir=Path(text_of(value, "confdir")),
        ca_file=Path(text_of(value, "ca_file")),
        upstream_ca=files.read(text_of(value, "upstream_ca_file")) if "upstream_ca_file" in value else b"",
        relay_caps=_caps(value["relay_caps"]),
    )


def _guard(value: dict[str, Any]) -> Address:
    if "guard" in value:
        return address_of(value["guard"], "guard")
    url = os.environ.get(GUARD_URL_VARIABLE, "")
    try:
        parts = urlsplit(url)
        found = {"host": parts.hostname, "port": parts.port}
    except ValueError:
        found = {}
    if not url.startswith("http://"):
        raise SettingsError(f"guard: neither in the configuration nor in {GUARD_URL_VARIABLE}")
    return address_of(found, GUARD_URL_VARIABLE)


def _caps(value: Any) -> RelayCaps:
    expect_keys(value, set(_CAPS), "relay_caps")
    read = {name: number_of(value, name, low=1, high=1 << 50) for name in _CAPS}
    tunnel = pump.Caps(max_bytes=read["max_bytes"], max_seconds=read["max_seconds"], idle_seconds=read["idle_seconds"])
    return RelayCaps(tunnel=tunnel, max_connections=read["max_connections"])
