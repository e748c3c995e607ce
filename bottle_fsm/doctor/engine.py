"""What an engine's facts mean for bottles. Pure.

Not its duty: asking the engine (`engine_look`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.doctor.rows import GIB, Row, failed, gib, ok, warning

AREA: Final = "engine"
NETWORKS_OF_A_BOTTLE: Final = 3
LOW_DISK: Final = 5 * GIB
"""Both of our images and their bases take about 1 GiB, and each agent writes into its own layer."""
_ELSEWHERE: Final = "Ask on the machine that the engine runs on: df -h"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What was found out about the engine that the environment names.

    Attributes:
        url: its address, without a password; source: what named it. problem, hint: why it cannot be used; empty if not.
        slow: it was waited for in vain, as long as a look may take.
        version, api_version, os: of the engine; os is what its containers run on, such as `linux`.
        root_dir: where it stores; free: bytes free there, None where that cannot be seen from here.
        runtimes: names of the runtimes that it knows. images: each image of ours → whether it is there.
        networks: how many there are, ours: how many of them carry our labels; subnets: those of all of them.
        pool, prefix: the manifest's default, from which bottles' subnets are cut. default_pools: the engine's own ones.
        unknown: why the rest could not be found out although the engine answers; empty when it could.
    """

    url: str = ""
    source: str = ""
    problem: str = ""
    hint: str = ""
    slow: bool = False
    version: str = ""
    api_version: str = ""
    os: str = "linux"
    root_dir: str = ""
    free: int | None = None
    runtimes: tuple[str, ...] = ()
    images: Mapping[str, bool] = field(default_factory=dict)
    networks: int = 0
    ours: int = 0
    subnets: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    prefix: int = 29
    default_pools: tuple[str, ...] = ()
    unknown: str = ""


def engine_rows(facts: EngineFacts) -> list[Row]:
    """Return the rows; one that failed means that the docker backend cannot run."""
    if facts.problem:
        hint = facts.hint or "Start an engine, or set DOCKER_HOST or a docker context to one"
        where = facts.source if facts.url in facts.problem else f"{facts.url}, {facts.source}"
        return [failed(AREA, "answers", f"{facts.problem} ({where})", hint)]
    rows = [ok(AREA, "answers", f"version {facts.version}, API {facts.api_version}, at {facts.url} ({facts.source})")]
    if facts.unknown:
        remedy = "Look at the engine's load and log, then run this again"
        return [*rows, failed(AREA, "looked at", f"it answers, but cannot be looked at: {facts.unknown}", remedy)]
    if facts.os != "linux":
        remedy = "Switch the engine to Linux containers, or name another one with DOCKER_HOST"
        rows.append(failed(AREA, "containers", f"it runs containers of {facts.os}; bottles are Linux", remedy))
    return [*rows, _storage(facts), _runsc(facts), *_images(facts), _pool(facts)]


def free_subnets(pool: Sequence[str], prefix: int, taken: Iterable[str]) -> tuple[int, int]:
    """Return how many subnets of the pool no taken network overlaps, and how many there are.

    Args:
        pool: IPv4 networks that do not overlap.
        prefix: the size of each subnet, as prefix length.
        taken: networks in use; IPv6 and unreadable ones take nothing.
    """
    occupied = [network for text in taken if (network := _ipv4(text)) is not None]
    total = free = 0
    for entry in map(ipaddress.IPv4Network, pool):
        count = 1 << (prefix - entry.prefixlen)
        total += count
        free += count - _length(_blocks(entry, prefix, occupied))
    return free, total


def _storage(facts: EngineFacts) -> Row:
    root = facts.root_dir or "an unknown place"
    if facts.free is None:
        return warning(AREA, "storage", f"{root}; its free space cannot be seen from here", _ELSEWHERE)
    found = f"{root}, {gib(facts.free)} free"
    if facts.free < LOW_DISK:
        remedy = f"Images and agents' layers need {gib(LOW_DISK)}: free some (`docker system df` shows what takes it)"
        return warning(AREA, "storage", found, remedy)
    return ok(AREA, "storage", found)


def _runsc(facts: EngineFacts) -> Row:
    if "runsc" in facts.runtimes:
        return ok(AREA, "runsc", "gVisor is among the runtimes; agents run in it")
    known = ", ".join(facts.runtimes) or "none"
    remedy = (
        "For a kernel of its own around each agent install gVisor, run `runsc install`, then restart the engine "
        "(https://gvisor.dev/docs/user_guide/install/)"
    )
    return warning(AREA, "runsc", f"no gVisor (runtimes: {known}): agents share the engine's kernel", remedy)


def _images(facts: EngineFacts) -> Iterator[Row]:
    for tag, there in facts.images.items():
        name = tag.partition(":")[0]
        later = "will be built by the first launch (1 to 3 minutes), or now by `make images` in a source checkout"
        yield ok(AREA, name, f"{tag} {'is built' if there else later}")


def _pool(facts: EngineFacts) -> Row:
    free, total = free_subnets(facts.pool, facts.prefix, facts.subnets)
    pools = ", ".join(facts.default_pools) or "the engine's built-in ones"
    found = (
        f"{free} of {total} subnets (/{facts.prefix}) free in {', '.join(facts.pool)}, a manifest's default; "
        f"{facts.networks} networks, {facts.ours} of them ours; the engine's own pools: {pools}"
    )
    if free < NETWORKS_OF_A_BOTTLE:
        remedy = (
            f"A bottle takes {NETWORKS_OF_A_BOTTLE}: destroy bottles, `docker network prune`, or name another pool in "
            'the manifest: `networks: {pool: ["10.214.0.0/16"]}`'
        )
        return warning(AREA, "networks", found, remedy)
    return ok(AREA, "networks", found)


def _blocks(entry: ipaddress.IPv4Network, prefix: int, taken: Iterable[ipaddress.IPv4Network]) -> list[tuple[int, int]]:
    """Return first and last number of the subnets of `entry` that each overlapping network touches."""
    first, last = int(entry.network_address), int(entry.broadcast_address)
    shift = 32 - prefix
    return [
        (
            (max(int(network.network_address), first) - first) >> shift,
            (min(int(network.broadcast_address), last) - first) >> shift,
        )
        for network in taken
        if network.overlaps(entry)
    ]


def _length(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many numbers some ranges cover together."""
    covered, end = 0, -1
    for low, high in sorted(ranges):
        covered += max(0, high - max(low, end + 1) + 1)
        end = max(end, high)
    return covered


def _ipv4(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None
