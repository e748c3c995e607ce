"""Which names a manifest may give: projects, agents, bottles, environment variables, networks, paths.

Not its duty: hosts and addresses (`hosts`), and names of engine objects (`bottle_fsm.naming`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.naming import PREFIX

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_IMAGE: Final = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_SKILL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_PATH: Final = 4096

PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY")
"""Set by the launcher, in both cases."""

TRUST_VARIABLES: Final = (
    "NODE_EXTRA_CA_CERTS",
    "DENO_CERT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_USE_ENV_PROXY",
    "NODE_USE_SYSTEM_CA",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
)
_UNVERIFIED: Final = ("NODE_TLS_REJECT_UNAUTHORIZED", "PYTHONHTTPSVERIFY", "GIT_SSL_NO_VERIFY")
_SHELL: Final = ("BASH_ENV", "ENV")
_PLACES: Final = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "SSH_AGENT_PID")

_RESERVED: Final[Mapping[str, str]] = {
    **dict.fromkeys(PROXY_VARIABLES, "the launcher points it at the interceptor"),
    **dict.fromkeys(TRUST_VARIABLES, "the launcher sets it, so that the bottle's CA is trusted"),
    **dict.fromkeys(_UNVERIFIED, "it turns certificate checks off"),
    **dict.fromkeys(_SHELL, "the launcher loads the bottle's secrets through it"),
    **dict.fromkeys(_PLACES, "the launcher sets it to the agent's own place"),
}
RESERVED_PREFIX: Final = "BOTTLE_"


def check_name(value: str) -> str:
    """Accept the name of a project, an agent or a bottle."""
    if not _NAME.fullmatch(value):
        raise Refusal(
            f"`{value}` is no valid name",
            "Use 1 to 63 letters, digits, `.`, `_` or `-`, and begin with a letter or digit",
        )
    return value


def check_variable(value: str) -> str:
    """Accept the name of an environment variable that the launcher does not set itself."""
    if not _VARIABLE.fullmatch(value):
        raise Refusal(
            f"`{value}` is no valid variable name", "Use letters, digits and `_`, and do not begin with a digit"
        )
    upper = value.upper()
    reason = _RESERVED.get(value) or (_RESERVED[upper] if upper in PROXY_VARIABLES else None)
    if reason is None and upper.startswith(RESERVED_PREFIX):
        reason = f"names that begin with `{RESERVED_PREFIX}` belong to the launcher"
    if reason is not None:
        raise Refusal(f"`{value}` is reserved: {reason}", "Remove it")
    return value


def check_image(value: str) -> str:
    """Accept an image reference; never one that a command line could take for an option."""
    if not _IMAGE.fullmatch(value):
        raise Refusal(f"`{value}` is no valid image name", "Write it as `name:tag` or `registry/name:tag`")
    return value


def check_user(value: str) -> str:
    """Accept a remote user's name."""
    if not _USER.fullmatch(value):
        raise Refusal(f"`{value}` is no valid user name", "Use letters, digits, `.`, `_` or `-`")
    return value


def check_network(value: str) -> str:
    """Accept the name of an engine network that a guard may join."""
    if not _NAME.fullmatch(value):
        raise Refusal(f"`{value}` is no valid network name", "Use letters, digits, `.`, `_` or `-`")
    if value in {"host", "none"}:
        raise Refusal(f"the network `{value}` would take the guard out of its own network", "Name a bridge network")
    if value.startswith(PREFIX):
        raise Refusal(f"`{value}` is a network of another bottle", "Name a network of your own")
    return value


def check_path(value: str) -> str:
    """Accept a host path: absolute, below `~/`, or relative to the manifest."""
    if not value or len(value) > _MAX_PATH or any(ord(sign) < ord(" ") for sign in value):
        raise Refusal("a path must have 1 to 4096 characters on one line", "Write the path of a file or directory")
    if value.startswith("~") and value != "~" and not value.startswith("~/"):
        raise Refusal(f"`{value}` names another user's home", "Write the path out, or begin with `~/`")
    return value


def check_skill(value: str) -> str:
    """Accept a skill: a plain name, or a path when it holds a slash or begins with `.` or `~`."""
    if is_skill_path(value):
        return check_path(value)
    if not _SKILL.fullmatch(value):
        raise Refusal(
            f"`{value}` is no valid skill", "Name one under ~/.claude/skills, or write a path such as ./skills/x"
        )
    return value


def is_skill_path(value: str) -> bool:
    """Tell whether a skill is written as a path."""
    return "/" in value or value.startswith((".", "~"))


def check_one_line(value: str) -> str:
    """Accept a text for a configuration file in which a line end would begin a new setting."""
    if not value.strip() or any(ord(sign) < ord(" ") for sign in value) or set("<>") & set(value):
        raise Refusal("the text must be one line, not empty, without `<` and `>`", "Correct it")
    return value
