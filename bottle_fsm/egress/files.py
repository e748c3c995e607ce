"""The files that each sidecar is given, as bytes by path, and the commands that start it. Pure.

Not its duty: copying them in. They go in before the start, by archive, into root-owned directories; the manifest of
`seal` goes last. The interceptor's secrets go in after the start, by a stream into its tmpfs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from bottle_fsm.egress import pipelock
from bottle_fsm.egress.delivered import delivery
from bottle_fsm.egress.injection import Injection
from bottle_fsm.egress.known import KnownSecret
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.sealed import MANIFEST_NAME, manifest_bytes
from bottle_fsm.places import GUARD_PORT, HEALTH_PORT, INTERCEPTOR_PORT, RELAY_PORT, RUN_DIR, SCAN_PORT
from bottle_fsm.secret import Secret

Engine = Literal["builtin", "pipelock"]

CONFIG_DIR: Final = "/etc/bottle-fsm"
STATE_DIR: Final = "/var/lib/bottle-fsm"
"""In the writable layer, writable for the interceptor's user: the CA lives and dies with it."""
GUARD_CONFIG: Final = f"{CONFIG_DIR}/guard.json"
GUARD_TOKENS: Final = f"{CONFIG_DIR}/guard-tokens.json"
POLICY: Final = f"{CONFIG_DIR}/policy.json"
INTERCEPTOR_CONFIG: Final = f"{CONFIG_DIR}/interceptor.json"
UPSTREAM_CA: Final = f"{CONFIG_DIR}/upstream-ca.pem"
MANIFEST: Final = f"{CONFIG_DIR}/{MANIFEST_NAME}"
INTERCEPTOR_SECRETS: Final = f"{RUN_DIR}/interceptor-secrets.json"
CA_DIR: Final = f"{STATE_DIR}/ca"
CA_CERT: Final = f"{STATE_DIR}/ca.crt"
GUARD_SOCKET: Final = "proxy.sock"
SCAN_SOCKET: Final = "scan.sock"
SECRET_PATHS: Final = frozenset({GUARD_TOKENS, pipelock.CONFIG_PATH})
"""Files that hold a token of the launch: mode 0400, owned by the user that the guard runs as."""

_PYTHON: Final = ("python3", "-m")
INTERCEPTOR_ARGV: Final = (*_PYTHON, "bottle_fsm.egress.interceptor", "--config", INTERCEPTOR_CONFIG)
INTERCEPTOR_HEALTH_ARGV: Final = (*_PYTHON, "bottle_fsm.egress.healthcheck", f"http://127.0.0.1:{HEALTH_PORT}/health")
_PLACEHOLDER: Final = b"<token>"


def guard_argv(engine: Engine, *, listen: str) -> tuple[str, ...]:
    """Return the command that starts the guard."""
    if engine == "pipelock":
        return pipelock.run_argv(listen)
    return (*_PYTHON, "bottle_fsm.egress.guard", "--config", GUARD_CONFIG)


def guard_health_argv(engine: Engine, *, listen: str) -> tuple[str, ...]:
    """Return the command of the guard's health check: exit code 0 when it is well."""
    if engine == "pipelock":
        return pipelock.health_argv(listen)
    url = f"unix:{listen}/{GUARD_SOCKET}" if listen.startswith("/") else f"http://{listen}:{GUARD_PORT}/health"
    return (*_PYTHON, "bottle_fsm.egress.healthcheck", url)


def guard_files(
    engine: Engine, policy: EgressPolicy, *, listen: str, scan_token: Secret, proxy_token: Secret
) -> dict[str, bytes]:
    """Return the guard's files.

    Args:
        engine: which guard.
        policy: the reach of the launch.
        listen: the guard's own address on the between network, or the directory (`/…`) in which it makes its two
            Unix sockets; it listens nowhere else.
        scan_token: what the interceptor shows to the scan API.
        proxy_token: what the interceptor shows to the built-in guard's CONNECT; pipelock knows none.
    """
    if engine == "pipelock":
        text = pipelock.pipelock_yaml(policy, listen=listen, scan_token=scan_token.reveal())
        return {pipelock.CONFIG_PATH: text.encode()}
    config = {
        "version": 1,
        "proxy": _guard_listens(listen, GUARD_PORT, GUARD_SOCKET),
        "scan": _guard_listens(listen, SCAN_PORT, SCAN_SOCKET),
        "policy_file": POLICY,
        "policy_sha256": policy.digest(),
        "tokens_file": GUARD_TOKENS,
        "limits": {"requests_per_minute": 60_000, "burst": 1000, "max_body_bytes": 4 * 1024 * 1024},
    }
    return {
        POLICY: policy.to_json().encode(),
        GUARD_TOKENS: guard_tokens(scan_token, proxy_token),
        GUARD_CONFIG: _json(config),
    }


def _guard_listens(listen: str, port: int, name: str) -> dict[str, Any]:
    return {"path": f"{listen}/{name}"} if listen.startswith("/") else {"host": listen, "port": port}


def interceptor_files(
    policy: EgressPolicy, *, listen: str, guard: str | None, upstream_ca: bytes = b""
) -> dict[str, bytes]:
    """Return the interceptor's files; none of them is secret.

    Args:
        policy: the reach of the launch.
        listen: the interceptor's own address on the inside network, for the proxy and the relay.
        guard: the guard's address on the between network; None when the environment variable
            `BOTTLE_FSM_GUARD_URL` says it.
        upstream_ca: extra roots (PEM) for servers, on top of the public ones.
    """
    config: dict[str, Any] = {
        "version": 1,
        "listen": {"host": listen, "port": INTERCEPTOR_PORT},
        "relay": {"host": listen, "port": RELAY_PORT},
        "health": {"host": "127.0.0.1", "port": HEALTH_PORT},
        "scan_port": SCAN_PORT,
        "policy_file": POLICY,
        "policy_sha256": policy.digest(),
        "secrets_file": INTERCEPTOR_SECRETS,
        "confdir": CA_DIR,
        "ca_file": CA_CERT,
        "relay_caps": {
            "max_bytes": 1 << 36,
            "max_seconds": 24 * 3600,
            "idle_seconds": 1800,
            "max_connections": 32,
        },
    }
    files = {POLICY: policy.to_json().encode()}
    if guard is not None:
        config["guard"] = {"host": guard, "port": GUARD_PORT}
    if upstream_ca:
        config["upstream_ca_file"] = UPSTREAM_CA
        files[UPSTREAM_CA] = upstream_ca
    return {**files, INTERCEPTOR_CONFIG: _json(config)}


def guard_tokens(scan_token: Secret, proxy_token: Secret) -> bytes:
    """Return what the built-in guard is given as `GUARD_TOKENS`."""
    return json.dumps({"scan_token": scan_token.reveal(), "proxy_token": proxy_token.reveal()}).encode()


def interceptor_secrets(
    scan_token: Secret,
    proxy_token: Secret,
    *,
    secrets: Sequence[KnownSecret] = (),
    injections: Sequence[Injection] = (),
) -> bytes:
    """Return what is delivered to the running interceptor at `INTERCEPTOR_SECRETS`, mode 0600, written aside first."""
    return delivery(
        scan_token=scan_token.reveal(), proxy_token=proxy_token.reveal(), secrets=secrets, injections=injections
    )


def seal(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files with their manifest as the last one; they are to be written in this order."""
    return {**files, MANIFEST: manifest_bytes(dict(files))}


def files_digest(files: Mapping[str, bytes], *, tokens: Sequence[Secret] = ()) -> str:
    """Return a digest of the files that says nothing about the tokens in them, for the plan and the label `.spec`."""
    total = hashlib.sha256()
    for path, data in sorted(files.items()):
        for token in tokens:
            data = data.replace(token.reveal().encode(), _PLACEHOLDER)  # noqa: PLW2901 - step by step, on purpose
        total.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(data).digest())
    return total.hexdigest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
