"""What is delivered to a running interceptor: its tokens, the bottle's known secrets, and the values to inject.

Until they are there and make sense, nothing is allowed. A file that was replaced is read again, so that values change
without a new interceptor; one that makes no sense any more closes everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bottle_fsm.egress.injection import Injection
from bottle_fsm.egress.known import KnownSecret, KnownSecrets
from bottle_fsm.egress.settings import SettingsError, Tokens, expect_keys

MAX_FILE: Final = 4 * 1024 * 1024
_KEYS: Final = {"scan_token", "proxy_token", "secrets", "injections"}


@dataclass(frozen=True, slots=True)
class Delivered:
    """One delivery, read.

    Attributes:
        tokens: for the guard. known: the secrets that are looked for.
        injections: name of a rule → what its requests get.
    """

    tokens: Tokens
    known: KnownSecrets = field(default_factory=lambda: KnownSecrets(()))
    injections: Mapping[str, tuple[Injection, ...]] = field(default_factory=dict)

    def placeholders(self, rule: str) -> frozenset[bytes]:
        """Return what the agent holds in the place of the values that a rule injects."""
        return frozenset(mark.encode() for one in self.injections.get(rule, ()) for _, mark in one.hidden)

    @classmethod
    def of(cls, value: Any) -> Delivered:
        """Read a delivery from its JSON object.

        Raises:
            SettingsError, ValueError: it is none; the text holds no value.
        """
        expect_keys(value, _KEYS, "delivered secrets")
        if not isinstance(value["secrets"], list) or not isinstance(value["injections"], list):
            raise SettingsError("delivered secrets: secrets and injections are lists")
        injections: dict[str, tuple[Injection, ...]] = {}
        for one in map(Injection.from_json, value["injections"]):
            injections[one.rule] = (*injections.get(one.rule, ()), one)
        return cls(
            tokens=Tokens.of({name: value[name] for name in ("scan_token", "proxy_token")}),
            known=KnownSecrets([_known(entry) for entry in value["secrets"]]),
            injections=injections,
        )


def delivery(
    *, scan_token: str, proxy_token: str, secrets: Sequence[KnownSecret] = (), injections: Sequence[Injection] = ()
) -> bytes:
    """Return the bytes of a delivery, values included: for the interceptor's tmpfs and nothing else."""
    value = {
        "scan_token": scan_token,
        "proxy_token": proxy_token,
        "secrets": [
            {"name": one.name, "value": one.value.decode("utf-8", "surrogateescape"), "to": list(one.to)}
            for one in secrets
        ],
        "injections": [one.to_json() for one in injections],
    }
    return json.dumps(value).encode()


class DeliveredSecrets:
    """The delivery in a file on tmpfs, read anew when the file is another one than before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int, int] | None = None
        self._found: Delivered | None = None

    def get(self) -> Delivered | None:
        """Return the delivery, or None while there is none or it makes no sense."""
        try:
            found = self._path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version != self._read:
                self._found = None
                with self._path.open("rb") as file:
                    self._found = Delivered.of(json.loads(file.read(MAX_FILE)))
                self._read = version
        except (OSError, ValueError, RecursionError, SettingsError):
            self._found, self._read = None, None
        return self._found


def _known(entry: Any) -> KnownSecret:
    expect_keys(entry, {"name", "value", "to"}, "a delivered secret")
    name, value, to = entry["name"], entry["value"], entry["to"]
    if not isinstance(name, str) or not isinstance(value, str):
        raise SettingsError("a delivered secret: name and value are texts")
    if not isinstance(to, list) or not all(isinstance(host, str) for host in to):
        raise SettingsError("a delivered secret: `to` is a list of hosts")
    return KnownSecret(name, value.encode("utf-8", "surrogateescape"), tuple(to))
