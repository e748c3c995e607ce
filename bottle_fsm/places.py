"""Fixed places inside a bottle: paths, ports, user ids and host names that several modules must agree on.

Sources: the CA path and the trust variables are part of the bottle's public contract (docs/providers.md,
docs/architecture.md); the ports are those of pipelock and mitmproxy by default.
"""

from __future__ import annotations

from typing import Final

AGENT_USER: Final = "agent"
AGENT_UID: Final = 1000
AGENT_GID: Final = 1000
AGENT_HOME: Final = "/home/agent"
WORKSPACE: Final = "/workspace"

RUN_DIR: Final = "/run/bottle"
"""A tmpfs in every container of ours; what is secret lives only here."""
AGENT_ENV_FILE: Final = f"{RUN_DIR}/env"
"""Secret variables of the agent as `export NAME='value'` lines, mode 0600, owned by the agent."""
SSH_AUTH_SOCK: Final = f"{RUN_DIR}/ssh-agent.sock"

CA_CERT_PATH: Final = "/usr/local/share/ca-certificates/claude-bottle-mitm.crt"
CA_BUNDLE_PATH: Final = "/etc/ssl/certs/ca-certificates.crt"

INTERCEPTOR_PORT: Final = 8080
"""HTTP proxy of the interceptor, on the inside network."""
RELAY_PORT: Final = 8081
"""CONNECT relay of the interceptor for declared raw TCP (ssh), on the inside network."""
HEALTH_PORT: Final = 8082
"""The interceptor's own health answer, on its loopback only."""
GUARD_PORT: Final = 8888
"""CONNECT proxy and `/health` of the guard, on its address on the between network only."""
SCAN_PORT: Final = 9090
"""Scan API of the guard, on its address on the between network only."""

GATE_HOST: Final = "gate.bottle-fsm.internal"
"""A name that the interceptor answers itself: the trust gate and the self-test's verdicts need no internet."""
DENIED_PROBE_HOST: Final = "denied.bottle-fsm.internal"
"""A name that no policy can allow; the self-test expects a refusal."""
UNUSABLE_DNS: Final = "192.0.2.1"
"""TEST-NET-1 (RFC 5737): a resolver that never answers, so that no name leaves the bottle."""

MIN_INJECTED_BYTES: Final = 8
"""A shorter value would be found in answers everywhere, so that it could not be kept out of them."""
MIN_SECRET_BYTES: Final = 12
"""Shorter values are not looked for in requests: they would match by chance."""
