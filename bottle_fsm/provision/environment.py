"""The variables that every process of the agent gets: proxy, trust, ssh-agent. Pure: text in, text out.

They are set when the agent is created, so that each exec inherits them; the same texts are written into the files that
children with a wiped environment read (`ca`). Not its duty: the user's own variables and secrets.

Rule (see docs/providers.md): a variable that adds to a tool's roots gets the CA alone; one that replaces them gets the
whole bundle, or every host that is not intercepted would fail.
"""

from __future__ import annotations

from typing import Final

from bottle_fsm.places import CA_BUNDLE_PATH, CA_CERT_PATH, INTERCEPTOR_PORT, RELAY_PORT, SSH_AUTH_SOCK

ADDITIVE: Final = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""These name certificates that a tool trusts besides its own."""

REPLACING: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
"""These name the only certificates that a tool trusts."""

SWITCHES: Final = {"NODE_USE_ENV_PROXY": "1", "NODE_USE_SYSTEM_CA": "1", "UV_NATIVE_TLS": "1"}
"""These make a tool look at the proxy variables or at the system's store at all."""

LOOPBACK: Final = "localhost,127.0.0.1,::1"
"""What is reached without the interceptor: nothing but the agent's own servers."""

PROXIED: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

VARIABLE_PROXY: Final = "BOTTLE_PROXY"
"""`http://host:port` of the interceptor, under a name that no tool reads: for scripts, and for our own probes."""
VARIABLE_RELAY: Final = "BOTTLE_RELAY"
"""`host:port` of the interceptor's CONNECT relay for declared ssh hosts."""


def proxy_url(interceptor: str) -> str:
    """Return the proxy URL for an interceptor's address or name."""
    return f"http://{_bracketed(interceptor)}:{INTERCEPTOR_PORT}"


def agent_environment(interceptor: str) -> dict[str, str]:
    """Return every variable that makes the agent's tools use and trust the interceptor at this address or name."""
    return {
        **proxy_environment(interceptor),
        **trust_environment(),
        "SSH_AUTH_SOCK": SSH_AUTH_SOCK,
        VARIABLE_PROXY: proxy_url(interceptor),
        VARIABLE_RELAY: f"{_bracketed(interceptor)}:{RELAY_PORT}",
    }


def proxy_environment(interceptor: str) -> dict[str, str]:
    """Return the proxy variables in both cases: curl ignores upper-case HTTP_PROXY, others ignore lower case."""
    url = proxy_url(interceptor)
    upper = {**dict.fromkeys(PROXIED, url), "NO_PROXY": LOOPBACK}
    return upper | {name.lower(): value for name, value in upper.items()}


def trust_environment() -> dict[str, str]:
    """Return the variables that name the CA or the bundle that holds it."""
    return {**dict.fromkeys(ADDITIVE, CA_CERT_PATH), **dict.fromkeys(REPLACING, CA_BUNDLE_PATH), **SWITCHES}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
