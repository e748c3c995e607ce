"""The built-in guard, as a process: `python -m bottle_fsm.egress.guard --config FILE`.

Reads its sealed files, opens the proxy port and the scan port on the given address, and serves until SIGTERM. Not its
duty: deciding (see `guard_connect` and `guard_scan`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bottle_fsm.egress import wire
from bottle_fsm.egress.guard_connect import ConnectProxy
from bottle_fsm.egress.guard_scan import Limits, ScanApi
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.policy import EgressPolicy
from bottle_fsm.egress.sealed import SealedFiles, SealError
from bottle_fsm.egress.settings import (
    Address,
    SettingsError,
    SocketPath,
    Tokens,
    expect_keys,
    listener_of,
    number_of,
    text_of,
)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_LIMITS = ("requests_per_minute", "burst", "max_body_bytes")


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What the guard was given: where to listen, the policy, its tokens and limits."""

    proxy: Address | SocketPath
    scan: Address | SocketPath
    policy: EgressPolicy
    tokens: Tokens
    limits: Limits


def load(config: Path) -> GuardSettings:
    """Read the settings from their sealed files.

    Raises:
        SealError: a file is missing, changed or malformed.
        SettingsError: the settings make no sense.
        ValueError: the policy is none.
    """
    files = SealedFiles.beside(config)
    value = files.read_object(str(config))
    expect_keys(
        value, {"version", "proxy", "scan", "policy_file", "policy_sha256", "tokens_file", "limits"}, str(config)
    )
    number_of(value, "version", low=1, high=1)
    expect_keys(value["limits"], set(_LIMITS), "limits")
    policy = EgressPolicy.from_json(files.read(text_of(value, "policy_file")).decode())
    if policy.digest() != value["policy_sha256"]:
        raise SettingsError("policy_sha256: differs from the policy's digest")
    return GuardSettings(
        proxy=listener_of(value["proxy"], "proxy"),
        scan=listener_of(value["scan"], "scan"),
        policy=policy,
        tokens=Tokens.of(files.read_object(text_of(value, "tokens_file"))),
        limits=Limits(**{name: number_of(value["limits"], name, low=1, high=1 << 30) for name in _LIMITS}),
    )


async def serve(settings: GuardSettings, log: JsonLines) -> None:
    """Serve both ports until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    proxy = ConnectProxy(settings.policy, settings.tokens, log)
    scan = ScanApi(settings.policy, settings.tokens, log, limits=settings.limits)
    servers = [await _listen(proxy.serve, settings.proxy), await _listen(scan.serve, settings.scan)]
    log.write("startup", policy=settings.policy.digest())
    await stop.wait()
    for server in servers:
        server.close()
    log.write("shutdown")
    log.close()


async def _listen(serve: Serve, where: Address | SocketPath) -> asyncio.Server:
    if isinstance(where, Address):
        return await asyncio.start_server(serve, where.host, where.port, limit=wire.MAX_HEAD)
    server = await asyncio.start_unix_server(serve, where.path, limit=wire.MAX_HEAD)  # takes a stale socket's place
    # The interceptor is another user; the directory is bound into its sandbox and into no other.
    os.chmod(where.path, 0o666)  # noqa: PTH101, S103 - see above; once, at the start
    return server


def main(argv: list[str] | None = None) -> int:
    """Run the guard; return its exit code: 0 after a signal, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="bottle-fsm-guard")
    parser.add_argument("--config", required=True, type=Path)
    config = parser.parse_args(argv).config
    os.umask(0o077)
    try:
        settings = load(config)
        log = JsonLines(bottle=settings.policy.bottle, launch=settings.policy.launch)
        asyncio.run(serve(settings, log))
    except (SealError, SettingsError, ValueError) as error:
        sys.stderr.write(f"guard: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"guard: cannot listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
