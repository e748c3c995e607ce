"""Where the guard may really connect to: resolve once, check every address, dial exactly a checked one.

Addresses that are not public are refused (see `address_space`). The only exception is a static address of the policy,
for its own name. Not its duty: which names are allowed.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from bottle_fsm.egress.address_space import is_public
from bottle_fsm.egress.policy import EgressPolicy

CONNECT_TIMEOUT: Final = 10.0
RESOLVE_TIMEOUT: Final = 5.0
MAX_ADDRESSES: Final = 4


class DialError(Exception):
    """No connection: `rule` is a stable word, `refused` tells a policy refusal from a failure of the network."""

    def __init__(self, rule: str, *, refused: bool) -> None:
        super().__init__(rule)
        self.rule = rule
        self.refused = refused


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
