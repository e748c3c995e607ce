"""Let the agent use ssh for the declared hosts: an ssh-agent with their keys, `config`, pinned `known_hosts`.

`/etc/ssh` is not touched. Every connection goes through the interceptor's relay, which knows the same hosts and ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import DecisionNeededError, ProvisionError
from bottle_fsm.model import Json
from bottle_fsm.plan.bottle_plan import ProvisionItem
from bottle_fsm.provision import sshagent
from bottle_fsm.provision.environment import VARIABLE_RELAY
from bottle_fsm.provision.files import STATE_DIR, Wanted, look, put, require, sha256
from bottle_fsm.provision.notes import read_note, write_note
from bottle_fsm.provision.shell import checked
from bottle_fsm.provision.sshfiles import (
    CONFIG,
    CONNECT,
    CONNECT_SCRIPT,
    KNOWN_HOSTS,
    config_text,
    connect_command,
    constraints,
    known_hosts_text,
    nc_command,
)
from bottle_fsm.provision.sshkey import key_facts
from bottle_fsm.steps import Step, Steps

NOTE: Final = f"{STATE_DIR}/ssh.json"
"""Fingerprints of the keys that the ssh-agent was given, by host path, and the digest of the files they go with."""
WHAT: Final = "ssh"
_MODE: Final = 0o600
_CONNECT_MODE: Final = 0o700

_WAYS: Final = f"""
echo "relay=${{{VARIABLE_RELAY}-}}"
if nc -h 2>&1 | grep -q -e '-X proxy'; then echo way=nc
elif command -v python3 >/dev/null 2>&1; then echo way=python3
else echo way=none; fi
"""


@dataclass(frozen=True, slots=True)
class _Key:
    """One private key of this host, to be given to the ssh-agent."""

    identity: str
    content: bytes
    encrypted: bool
    fingerprint: str

    def __repr__(self) -> str:
        return f"_Key({self.identity})"


class SshProvisioner:
    """`item.inputs`: `hosts`, each with host, user, port, identity_file (host path) and known_host_key."""

    def apply(self, bottle: Bottle, item: ProvisionItem, steps: Steps, step: Step) -> None:
        """Write the files, start the ssh-agent once, and give it the keys that it lacks."""
        hosts = item.inputs["hosts"]
        files = _files(bottle, hosts)
        put(bottle, files, look(bottle, files, what=WHAT))
        started, held = sshagent.ensure_running(bottle)
        keys = [_read_key(identity) for identity in sorted({entry["identity_file"] for entry in hosts})]
        note = read_note(bottle, NOTE)
        complete = _holds(keys, held, note, _stamp(files))
        known = note["keys"] if complete else _give(bottle, hosts, keys, steps)
        write_note(bottle, NOTE, {"stamp": _stamp(files), "keys": known}, before=note)
        step.evidence(
            WHAT,
            {
                "hosts": [f"{entry['user']}@{entry['host']}:{entry['port']}" for entry in hosts],
                "keys": known,
                "given": not complete,
                "agent": "started" if started else "was running",
            },
        )

    def verify(self, bottle: Bottle, item: ProvisionItem) -> None:
        """Look whether the files are as planned and the ssh-agent holds every key that it was given."""
        files = _files(bottle, item.inputs["hosts"])
        require(bottle, files, what=WHAT)
        held = sshagent.fingerprints(bottle)
        if held is None:
            raise ProvisionError("no ssh-agent answers inside", place=WHAT)
        note = read_note(bottle, NOTE)
        wanted = {entry["identity_file"] for entry in item.inputs["hosts"]}
        known: Json = note.get("keys", {})
        missing = sorted(identity for identity in wanted if known.get(identity) not in held)
        if missing or note.get("stamp") != _stamp(files):
            which = ", ".join(missing) or "bound to other hosts"
            raise ProvisionError(f"the ssh-agent lacks keys: {which}", place=WHAT, hint="`apply` adds them again")


def _files(bottle: Bottle, hosts: list[Json]) -> list[Wanted]:
    answers = dict(line.split("=", 1) for line in checked(bottle, _WAYS, what=WHAT).text.splitlines())
    relay, way = answers["relay"], answers["way"]
    if not relay:
        raise ProvisionError("the bottle has no relay for ssh", place=WHAT, hint=f"{VARIABLE_RELAY} is not set inside")
    if way == "none":
        hint = "Put netcat-openbsd or python3 into the image"
        raise ProvisionError("the image has nothing that connects through a proxy", place=WHAT, hint=hint)
    command = nc_command(relay) if way == "nc" else connect_command(relay)
    files = [
        Wanted(KNOWN_HOSTS, known_hosts_text(hosts).encode(), _MODE),
        Wanted(CONFIG, config_text(hosts, command).encode(), _MODE),
    ]
    return files if way == "nc" else [*files, Wanted(CONNECT, CONNECT_SCRIPT, _CONNECT_MODE)]


def _holds(keys: list[_Key], held: set[str], note: Json, stamp: str) -> bool:
    """Tell whether nothing is to be given. A PEM key does not say its fingerprint: it is given each time."""
    known = {key.identity: key.fingerprint for key in keys}
    return note == {"stamp": stamp, "keys": known} and set(known.values()) <= held


def _give(bottle: Bottle, hosts: list[Json], keys: list[_Key], steps: Steps) -> dict[str, str]:
    """Give all keys anew, and return the fingerprint of each, by its path on this host."""
    # asked for before anything is removed: without an answer the bottle stays as it was
    passphrases = {k.identity: steps.ask(f"Passphrase for {k.identity}: ") for k in keys if k.encrypted}
    sshagent.clear(bottle)
    known: dict[str, str] = {}
    for key in keys:
        sshagent.add_key(
            bottle,
            key.content,
            passphrase=passphrases.get(key.identity),
            constraints=constraints(hosts, key.identity),
            known_hosts=KNOWN_HOSTS,
            place=key.identity,
        )
        known[key.identity] = key.fingerprint or _newest(bottle, known)
    return known


def _newest(bottle: Bottle, known: dict[str, str]) -> str:
    """Return the fingerprint of a PEM key, which does not say it: the one that was not there before."""
    return min((sshagent.fingerprints(bottle) or set()) - set(known.values()), default="")


def _stamp(files: list[Wanted]) -> str:
    return sha256(b"\0".join(file.content for file in files))


def _read_key(identity: str) -> _Key:
    try:
        content = Path(identity).read_bytes()
    except OSError as error:
        raise DecisionNeededError(
            f"the private key cannot be read: {error.strerror}", place=identity, hint="Restore the file, then resume"
        ) from error
    facts = key_facts(content, place=identity)
    return _Key(identity, content, facts.encrypted, facts.fingerprint)
