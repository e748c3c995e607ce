"""Subnets and the addresses in them: which are tried, in which order, and who gets which. Pure.

Order and addresses follow from the slug and the chosen subnet alone, so that a launch resumed elsewhere in its work
arrives at the same ones.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

GATEWAY: Final = 1
"""No container ever gets this one: what is sent to it must go nowhere."""
INTERCEPTOR: Final = 2
PARTNER: Final = 3
"""The agent on the inside network, the guard on the between network."""


def candidates(pool: Iterable[str], prefix: int, seed: str) -> Iterator[str]:
    """Yield every subnet of the pool once, beginning at a place that depends on `seed`."""
    networks = [ipaddress.IPv4Network(entry) for entry in pool]
    counts = [1 << (prefix - network.prefixlen) for network in networks]
    total = sum(counts)
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % total
    for step in range(total):
        number = (start + step) % total
        for network, count in zip(networks, counts, strict=True):
            if number < count:
                first = int(network.network_address) + (number << (32 - prefix))
                yield f"{ipaddress.IPv4Address(first)}/{prefix}"
                break
            number -= count


def free(subnets: Iterable[str], taken: Iterable[str]) -> Iterator[str]:
    """Yield the subnets that overlap none of the taken ones; IPv6 networks and unreadable entries take nothing."""
    occupied = [network for entry in taken if (network := _ipv4(entry)) is not None]
    for subnet in subnets:
        if not any(ipaddress.IPv4Network(subnet).overlaps(network) for network in occupied):
            yield subnet


def address(subnet: str, number: int) -> str:
    """Return the address with this number in a subnet."""
    return str(ipaddress.IPv4Network(subnet)[number])


def _ipv4(text: str) -> ipaddress.IPv4Network | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return network if isinstance(network, ipaddress.IPv4Network) else None
