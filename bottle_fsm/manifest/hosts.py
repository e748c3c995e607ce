"""Hosts, ports and addresses as a manifest writes them, brought to one spelling.

Not its duty: deciding about a request; `egress` does, with what this module let through.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from bottle_fsm.hostname import Fault, HostNameError, normalise_host
from bottle_fsm.manifest.limits import is_range
from bottle_fsm.manifest.refusal import Refusal
from bottle_fsm.places import DENIED_PROBE_HOST

_MAX_PORT: Final = 65535
_OWN_ZONE: Final = DENIED_PROBE_HOST.split(".", 1)[1]
_PRIVATE: Final = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
_KEY_TYPES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_LENGTH: Final = 4
_NAME_IT: Final = "Give it a name under `hosts` and allow that name"
_FAULTS: Final[Mapping[Fault, tuple[str, str]]] = {
    "form": ("is no valid host name", "Use letters, digits, `-` and dots, without a port"),
    "spelling": ("has no single spelling in DNS", "Write its labels as they are in DNS, `xn--…`"),
    "address": ("can be read as an address", _NAME_IT),
}


def check_host(value: str) -> str:
    """Accept one host name and return it normalised: lower case, no trailing dot, IDNA spelling."""
    if "*" in value:
        raise Refusal(f"`{value}` is a pattern, but one host is wanted here", "Write the full host name")
    return _normal(value)


def check_host_pattern(value: str) -> str:
    """Accept a host name or `*.suffix` and return it normalised."""
    if not value.startswith("*."):
        if value == "*":
            raise Refusal("a bare `*` would allow every host", "Name the hosts, or a suffix such as `*.example.org`")
        if "*" in value:
            raise Refusal(f"`{value}` has its `*` in the wrong place", "Write `*.suffix`, with the star as first label")
        return _normal(value)
    suffix = _normal(value[2:])
    if "." not in suffix:
        raise Refusal(f"`{value}` would allow a whole top-level domain", "Add at least one more label")
    return f"*.{suffix}"


def split_rule(value: str) -> dict[str, Any]:
    """Read the short form of a rule, `host`, `host:port` or `*.suffix`, as the keys of the long form."""
    if value.count(":") != 1 or "/" in value:
        return {"host": value}
    host, port = value.split(":")
    if is_range(port) and _is_address(host):
        problem = f"`{value}` is an address with a range of ports"
        raise Refusal(problem, "Give the address a name under `hosts`, and write one rule for each port of that name")
    if is_range(port):
        raise Refusal(f"`{value}` names a range of ports", "Write one rule for each port")
    if not port.isascii() or not port.isdigit() or len(port) > len(str(_MAX_PORT)):
        raise Refusal(f"`{value}` has no valid port after its colon", "Write `host:port` with a port from 1 to 65535")
    return {"host": host, "port": int(port)}


def check_address(value: str) -> str:
    """Accept the address of a static name and return its shortest spelling.

    A static name is the one exception to the guard's check for private addresses, so what no name may point at is
    refused here: the guard itself, the link (cloud metadata), groups.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise Refusal(f"`{value}` is no IP address", "Write an address such as 203.0.113.7") from None
    mapped = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id)
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if mapped or special or (address.version == 4 and address.is_reserved):  # noqa: PLR2004 - IP version 4
        raise Refusal(f"a name may not point at `{value}`", "Use the address of one machine, neither loopback nor link")
    return address.compressed


def check_static_names(value: Any) -> Any:
    """Refuse static names that become one when they are normalised: the last would silently win."""
    seen: dict[str, str] = {}
    for name in value if isinstance(value, dict) else ():
        other = seen.setdefault(_spelling(name), name)
        if other != name:
            raise Refusal(f"`{other}` and `{name}` are the same host", "Keep one of them")
    return value


def check_pool(value: str) -> str:
    """Accept one IPv4 network for the bottles' own networks."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise Refusal(f"`{value}` is no IPv4 network ({error})", "Write one such as 10.213.0.0/16") from None
    if not any(network.subnet_of(private) for private in _PRIVATE):
        known = ", ".join(map(str, _PRIVATE))
        raise Refusal(f"`{value}` is not private: the bottles would hide its addresses", f"Take it from {known}")
    return str(network)


def check_host_key(value: str) -> str:
    """Accept a public host key, `type base64`, and return it without a comment."""
    hint = "Write what `ssh-keyscan HOST` prints after the host, such as `ssh-ed25519 AAAA…`"
    parts = value.split()
    if len(parts) < 2 or "\n" in value.strip() or parts[0] not in _KEY_TYPES:  # noqa: PLR2004 - type and key
        raise Refusal("this is no public host key", hint)
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except ValueError:
        raise Refusal("the host key's base64 part is damaged", hint) from None
    size = int.from_bytes(blob[:_LENGTH], "big")
    if blob[_LENGTH : _LENGTH + size] != parts[0].encode() or len(blob) <= _LENGTH + size:
        raise Refusal(f"the host key is not of the type `{parts[0]}` that stands before it", hint)
    return f"{parts[0]} {parts[1]}"


def _normal(value: str) -> str:
    if "://" in value:
        raise Refusal(f"`{value}` is a URL", "Write the host alone, without scheme and path")
    if "/" in value and _is_network(value):
        raise Refusal(
            f"`{value}` is a network, not a name", "Give each machine a name under `hosts` and allow that name"
        )
    if "/" in value:
        raise Refusal(f"`{value}` holds a path", "Write the host alone")
    if _is_address(value):
        raise Refusal(f"`{value}` is an address, not a name", _NAME_IT)
    host = _named(value)
    if host == "localhost" or host.endswith(".localhost"):
        raise Refusal(f"`{value}` is the machine itself", "Name a host outside the bottle")
    if host == _OWN_ZONE or host.endswith(f".{_OWN_ZONE}"):
        raise Refusal(f"`{value}` belongs to the launcher's own tests", "Choose another name")
    return host


def _is_address(value: str) -> bool:
    """Tell whether a text is an address, as a URL writes it, too: in brackets, with a port after them."""
    try:
        ipaddress.ip_address(value[1:].partition("]")[0] if value.startswith("[") else value)
    except ValueError:
        return False
    return True


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def _spelling(name: object) -> str:
    try:
        return normalise_host(str(name))
    except HostNameError:
        return str(name)


def _named(value: str) -> str:
    """Return a name's canonical spelling; a manifest writes no underscores, which no host on the internet has."""
    try:
        host = normalise_host(value)
    except HostNameError as error:
        problem, hint = _FAULTS[error.fault]
        raise Refusal(f"`{value}` {problem}", hint) from None
    if "_" in host:
        problem, hint = _FAULTS["form"]
        raise Refusal(f"`{value}` {problem}", hint)
    return host
