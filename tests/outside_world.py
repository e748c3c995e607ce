"""A made-up internet: one machine with a public-looking address; nothing there leads out of this computer.

A bottle gets there through manifest keys that everybody has: `egress.network`, `egress.hosts`, `egress.upstream_ca`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import Any, Final

from outside_keys import DOMAIN, Keys

SSH_USER: Final = "git"


class OutsideWorld(ABC):
    """One machine with a public-looking address and many names, and what arrived at it."""

    def __init__(self, keys: Keys, address: str) -> None:
        self.keys = keys
        self.address = address
        self.authority = str(keys.where / "ca.pem")
        """The CA's certificate, as the visitor sees it."""

    def name(self, label: str = "web") -> str:
        """Return a host name of the made-up internet; all of them are the one machine."""
        return f"{label}.{DOMAIN}"

    def hosts(self, *labels: str) -> dict[str, str]:
        """Return `egress.hosts` for names."""
        return {self.name(label): self.address for label in labels}

    def egress(self, *labels: str, allow: list[Any] | None = None) -> dict[str, Any]:
        """Return `egress` of a manifest that reaches the machine under these names."""
        return {
            "guard": "builtin",
            "allow": [self.name(label) for label in labels] if allow is None else allow,
            "hosts": self.hosts(*labels),
            "upstream_ca": [str(self.keys.where / "ca.pem")],
        }

    def ssh(self, label: str, **changes: Any) -> dict[str, Any]:
        """Return an entry of `ssh` in a manifest."""
        return {
            "host": self.name(label),
            "user": SSH_USER,
            "identity_file": str(self.keys.where / "user"),
            "known_host_key": self.keys.public("host"),
            **changes,
        }

    # -- what arrived ------------------------------------------------------------------------------------------------

    @abstractmethod
    def log(self) -> str:
        """Return all that the machine wrote."""

    @abstractmethod
    def visit(self, *argv: str) -> tuple[int, str]:
        """Run a command where only a guard stands otherwise; return its exit code and what it said."""

    def seen(self, kind: str) -> list[dict[str, Any]]:
        """Return what arrived: `connection` or `request`."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["seen"] == kind]

    def requests(self, path: str) -> list[dict[str, Any]]:
        """Return the requests for a path."""
        return [request for request in self.seen("request") if request["path"] == path]

    def ssh_connections(self, port: int) -> int:
        """Return how many connections the sshd had on a port; the machine's own first look is not counted."""
        return len(re.findall(rf"Connection from (?!127\.)\S+ port \d+ on \S+ port {port}\b", self.log()))

    def control(self, url: str, label: str = "web", port: int = 443) -> None:
        """Prove that the machine answers this request when nothing stands in between."""
        where = f"{self.name(label)}:{port}:{self.address}"
        code, text = self.visit("curl", "-sS", "-m", "10", "--cacert", self.authority, "--resolve", where, url)
        assert code == 0, text
