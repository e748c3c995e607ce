"""The configuration of pipelock 2.3.0 as the guard, generated from an EgressPolicy. Pure; JSON text is valid YAML.

pipelock refuses unknown keys, so every key here is one that it documents. It ignores ports: which port, method and path
is the interceptor's to decide. Not its duty: running it.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Final

from bottle_fsm.egress.address_space import SPECIAL
from bottle_fsm.egress.policy import RESERVED_SUFFIX, EgressPolicy
from bottle_fsm.places import GUARD_PORT, SCAN_PORT

CONFIG_PATH: Final = "/etc/bottle-fsm/pipelock.yaml"
BINARY: Final = "/pipelock"
METRICS: Final = "127.0.0.1:9099"
"""Inside the guard only: metrics and statistics must not stand on the proxy port."""


_NOBODY: Final = f"nobody.{RESERVED_SUFFIX}"
"""An empty allowlist does not load; a name that nobody can have allows as little."""


def pipelock_config(policy: EgressPolicy, *, listen: str, scan_token: str) -> dict[str, Any]:
    """Return pipelock's configuration as data.

    Args:
        policy: the reach of the launch.
        listen: the guard's own address on the between network; never all interfaces.
        scan_token: the bearer token of the scan API, or a placeholder when only a digest is wanted.
    """
    config: dict[str, Any] = {
        "version": 1,
        "mode": "strict",
        "api_allowlist": sorted({rule.host for rule in policy.rules}) or [_NOBODY],
        "forward_proxy": {"enabled": True},
        "fetch_proxy": {"listen": f"{listen}:{GUARD_PORT}", "monitoring": {"max_requests_per_minute": 60_000}},
        "request_body_scanning": {"enabled": True, "action": "block", "scan_headers": True},
        "dlp": {"scan_env": False},
        "scan_api": {
            "listen": f"{listen}:{SCAN_PORT}",
            "auth": {"bearer_tokens": [scan_token]},
            "rate_limit": {"requests_per_minute": 60_000, "burst": 1000},
            "max_body_bytes": 4 * 1024 * 1024,
            "field_limits": {"text": 524_288},
            "timeouts": {"read": "5s", "write": "5s", "scan": "5s"},
            "connection_limit": 100,
        },
        "metrics_listen": METRICS,
        "internal": list(SPECIAL),
        "logging": {"format": "json", "output": "stdout", "include_allowed": True, "include_blocked": True},
    }
    if policy.hosts:
        config["ssrf"] = {"ip_allowlist": sorted({_network(address) for _, address in policy.hosts})}
    return config


def pipelock_yaml(policy: EgressPolicy, *, listen: str, scan_token: str) -> str:
    """Return the configuration file's text: one YAML document, written as JSON."""
    return json.dumps(pipelock_config(policy, listen=listen, scan_token=scan_token), indent=1) + "\n"


def run_argv(listen: str) -> tuple[str, ...]:
    """Return the command that starts the guard."""
    return (BINARY, "run", "--config", CONFIG_PATH, "--listen", f"{listen}:{GUARD_PORT}")


def check_argv() -> tuple[str, ...]:
    """Return the preflight command: exit code 1 and a text on stderr when the configuration is wrong."""
    return (BINARY, "check", "--config", CONFIG_PATH)


def health_argv(listen: str) -> tuple[str, ...]:
    """Return the health check's command; the image's own one asks another address."""
    return (BINARY, "healthcheck", "--addr", f"{listen}:{GUARD_PORT}")


def _network(address: str) -> str:
    return str(ipaddress.ip_network(address))
