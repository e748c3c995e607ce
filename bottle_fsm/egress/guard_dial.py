"""Where the guard may really connect to: resolve once, check every address, dial exactly a checked one.

Private, loopback, link-local, metadata, multicast and otherwise special addresses are refused, in IPv6 disguise, too.
The only exception is a static address of the policy, for its own name. Not its duty: which names are allowed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

from bottle_fsm.egress.policy import EgressPolicy

CONNECT_TIMEOUT: Final = 10.0
RESOLVE_TIMEOUT: Final = 5.0
MAX_ADDRESSES: Final = 4
_EXTRA_REFUSED: Final = (ipaddress.ip_network("168.63.129.16/32"),)
"""A cloud's metadata address inside public space."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class DialError(Exception):
    """No connection: `rule` is a stable word, `refused` tells a policy refusal from a failure of the network."""

    def __init__(self, rule: str, *, refused: bool) -> None:
        super().__init__(rule)
        self.rule = rule
        self.refused = refused


def is_public(text: str) -> bool:
    """Tell whether an address is an ordinary one of the public internet."""
    address = ipaddress.ip_address(text)
    return all(_is_plain(inner) for inner in (address, *_embedded(address)))


def _is_plain(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return True  # judged by the IPv4 address inside
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address in network for network in _EXTRA_REFUSED)


def _embedded(address: IPAddress) -> list[IPAddress]:
    """Return the IPv4 addresses that an IPv6 address leads to: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[IPAddress] = [*(address.teredo or ())]
    found += [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address in _NAT64 or int(address) >> 32 == 0:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


async def checked_addresses(policy: EgressPolicy, host: str, port: int) -> list[str]:
    """Return the addresses that an allowed, canonical name may be dialled at.

    Raises:
        DialError: the name does not resolve, or any of its addresses is not public (a name with one private address
            is refused as a whole: it would be a way to choose).
    """
    static = policy.address_of(host)
    if static is not None:
        return [static]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise DialError("dns_unresolved", refused=False) from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    if not addresses or not all(is_public(address) for address in addresses):
        raise DialError("ssrf_private_address", refused=True)
    return addresses[:MAX_ADDRESSES]


async def dial(addresses: list[str], port: int, *, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of the checked addresses that answers; addresses are literals, nothing is resolved again.

    Raises:
        DialError: none answers.
    """
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await asyncio.open_connection(address, port, limit=limit)
        except (OSError, TimeoutError):
            continue
    raise DialError("upstream_unreachable", refused=False)
