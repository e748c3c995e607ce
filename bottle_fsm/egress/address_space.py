"""Which addresses are no part of the public internet: the one list that both guard engines go by.

The standard library knows such a list, too, but it changes between Python releases; an address has to pass both.
"""

from __future__ import annotations

import ipaddress
from typing import Final

SPECIAL: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "2002::/16",
    "64:ff9b::/96",
    "::/128",
    "::/96",
    "::1/128",
    "::ffff:0:0/96",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
)
"""Private, loopback, link-local, shared, metadata, documentation, multicast and reserved space, and every IPv6 form
that carries an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo)."""

_NETWORKS: Final = tuple(ipaddress.ip_network(network) for network in SPECIAL)


def is_public(text: str) -> bool:
    """Tell whether an address is an ordinary one of the public internet."""
    address = ipaddress.ip_address(text)
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address in network for network in _NETWORKS)
