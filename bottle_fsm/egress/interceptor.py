"""The interceptor, as a process: `python -m bottle_fsm.egress.interceptor --config FILE`.

mitmproxy as a library, with a Master of its own: only the addons named here exist, so a broken one cannot leave a
working proxy without policy behind. Not its duty: deciding (see `verdict` and `addon`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from mitmproxy.addons.errorcheck import ErrorCheck
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.options import Options

from bottle_fsm.egress import authority, interceptor_settings, wire
from bottle_fsm.egress.addon import Egress, EgressAddon
from bottle_fsm.egress.bounded_http import BodyBudget
from bottle_fsm.egress.delivered import DeliveredSecrets
from bottle_fsm.egress.discreet import DiscreetLines
from bottle_fsm.egress.doors import Clearances, ClearedTls, StrictNextLayer
from bottle_fsm.egress.health import HealthServer
from bottle_fsm.egress.interceptor_settings import InterceptorSettings
from bottle_fsm.egress.jsonlines import JsonLines
from bottle_fsm.egress.refusals import DecisionLog
from bottle_fsm.egress.relay import Relay
from bottle_fsm.egress.scan import ScanClient
from bottle_fsm.egress.sealed import SealError
from bottle_fsm.egress.settings import SettingsError

STRICT_OPTIONS: Final = {
    "mode": ["regular"],
    "connection_strategy": "lazy",
    "upstream_cert": False,
    "add_upstream_certs_to_client_chain": False,
    "rawtcp": False,
    "websocket": False,
    "http3": False,
    "ssl_insecure": False,
    "validate_inbound_headers": True,
    "ignore_hosts": [],
    "allow_hosts": [],
    "tcp_hosts": [],
    "udp_hosts": [],
    "key_size": authority.KEY_SIZE,
}


class _ErrorLines(logging.Handler):
    """Writes mitmproxy's warnings to standard error without their text, which can hold parts of a request."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines = JsonLines(descriptor=2)

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        self._lines.write("log", level=record.levelname, logger=record.name, line=record.lineno, exception=kind)


class _WhenRunning:
    """Lets relay and health answer only when mitmproxy listens: who sees health can use the proxy."""

    name = "bottlerunning"

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers

    async def running(self) -> None:
        for server in self._servers:
            await server.start_serving()


class Interceptor:
    """One interceptor: mitmproxy with our addons, the relay and the health answer, in one loop."""

    def __init__(self, settings: InterceptorSettings) -> None:
        self._settings = settings
        policy = settings.policy
        self._secrets = DeliveredSecrets(settings.secrets_file)
        self._lines = DiscreetLines(self._secrets, bottle=policy.bottle, launch=policy.launch)
        authority.ensure_authority(settings.confdir, name=f"bottle-fsm {policy.bottle} {policy.launch}")
        self._ca_sha256 = authority.publish_certificate(settings.confdir, settings.ca_file)

    def health(self) -> dict[str, str]:
        """Return what the health answer says about this process."""
        status = "ok" if self._secrets.get() else "waiting_secrets"
        return {"status": status, "ca_sha256": self._ca_sha256, "policy": self._settings.policy.digest()}

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        master = self._master()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, master.shutdown)
        servers = await self._side_servers()
        master.addons.add(_WhenRunning(servers))
        self._lines.write("startup", ca_sha256=self._ca_sha256, policy=self._settings.policy.digest())
        try:
            await master.run()
        finally:
            for server in servers:
                server.close()
            self._lines.write("shutdown")
            self._lines.close()

    def _master(self) -> Master:
        settings = self._settings
        master = Master(Options(listen_host=settings.listen.host, listen_port=settings.listen.port))
        clearances, budget = Clearances(), BodyBudget()
        egress = Egress(
            policy=settings.policy,
            guard=settings.guard,
            scans=ScanClient(settings.guard.host, settings.scan_port, agent=settings.policy.bottle),
            secrets=self._secrets,
            log=DecisionLog(self._lines),
        )
        addon = EgressAddon(egress, clearances, budget)
        next_layer = StrictNextLayer(clearances, addon, budget, self._lines)
        master.addons.add(
            Proxyserver(), next_layer, ClearedTls(clearances), addon, ErrorCheck(repeat_errors_on_stderr=True)
        )
        options = {**STRICT_OPTIONS, "confdir": str(settings.confdir)}
        if settings.upstream_ca:
            bundle = authority.upstream_roots(settings.confdir, settings.upstream_ca)
            options["ssl_verify_upstream_trusted_ca"] = str(bundle)
        master.options.update(**options)
        return master

    async def _side_servers(self) -> list[asyncio.Server]:
        settings = self._settings
        relay = Relay(settings.policy, settings.guard, self._secrets, self._lines, caps=settings.relay_caps)
        health = HealthServer(settings.guard, self.health)
        bound: dict[str, Any] = {"limit": wire.MAX_HEAD, "start_serving": False}
        return [
            await asyncio.start_server(relay.serve, settings.relay.host, settings.relay.port, **bound),
            await asyncio.start_server(health.serve, settings.health.host, settings.health.port, **bound),
        ]


def main(argv: list[str] | None = None) -> int:
    """Run the interceptor; return its exit code: 0 after a signal, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="bottle-fsm-interceptor")
    parser.add_argument("--config", required=True, type=Path)
    config = parser.parse_args(argv).config
    os.umask(0o077)
    logging.getLogger().addHandler(_ErrorLines())
    try:
        asyncio.run(Interceptor(interceptor_settings.load(config)).run())
    except (SealError, SettingsError, ValueError, OSError) as error:
        sys.stderr.write(f"interceptor: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
